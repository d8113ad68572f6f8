"""Tests of shadow.drill: which steps and ticks a kind of fault can strike."""

from __future__ import annotations

import datetime as dt

from shadow.drill import DrillGround
from shadow.drill_trial import StartingPoint
from shadow.faults import Shot
from shadow.keys import evidence_keys
from shadow.observation import Graph
from shadow.plan import Mode, RunPlan
from shadow.rules import RuleBook
from shadow.store import RunRecord
from tickover.boundary.exchange import FALLBACK
from tickover.context import TickContext
from tickover.execution import System
from tickover.ports import Port
from tickover.tape import TapeEntry
from tickover.workflow import Step, Workflow

PLAN = RunPlan(
    run="r", workload="tests:job", ticks=5, every_s=1, time_scale=1, seed=1, mode=Mode.RECORD, candidate=System.ASYNC
)


def _step(context: TickContext) -> None:
    return None


job = Workflow(
    name="job", version="1",
    steps=[Step(name="rates", run=_step), Step(name="announce", run=_step, needs=("rates",))],
    ports=[Port(name="fx", connect=dict, methods=("get",))],
)  # fmt: skip


def _call(tick: int, step: str, port: str) -> TapeEntry:
    return TapeEntry(
        run="r", tick=tick, step=step, port=port, method="get", request={}, request_hash="h", occurrence=0, attempt=1,
        answer=1, error=None, latency_ms=1.0, recorded_by="legacy",
    )  # fmt: skip


def _ground() -> DrillGround:
    """Both ticks announce by HTTP, which is an effect to the new system; the first alone asks for rates."""
    rules = RuleBook()
    record = RunRecord(
        run="r", status="done", plan=PLAN, graph=Graph.of(job), judgement_key="", rules=rules, surface={},
        behaviour_key=evidence_keys(PLAN, job, rules)["behaviour"], started_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        finished_at=None,
    )  # fmt: skip
    tapes = {0: [_call(0, "rates", "fx"), _call(0, "announce", FALLBACK)], 1: [_call(1, "announce", FALLBACK)]}
    points = {
        tick: StartingPoint(run="r", tick=tick, started_at="", state={}, draws=None, tape=tuple(tape))
        for tick, tape in tapes.items()
    }
    return DrillGround(
        record=record, workflow=job, limits={"rates": 10.0, "announce": 10.0}, points=points, time_scale=1.0
    )


def test_a_fault_of_ports_strikes_only_what_calls_one() -> None:
    """A request that the old system makes and the new one declares as an effect is no call that could go wrong."""
    ground = _ground()
    for kind in ("malformed_answer", "model_outage"):
        assert ground.possible[kind] == ("rates",)
    assert ground.possible["permanent_error"] == ("rates", "announce")
    assert {ground.tick_of(Shot(kind="malformed_answer", steps=("rates",), seed=seed)) for seed in range(20)} == {0}
