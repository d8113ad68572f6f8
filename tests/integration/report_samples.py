"""Runs made of comparisons alone, for tests of reports: what the shadow run stores, without running anything."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from shadow.compare import Comparison, Kind, StepVerdict
from shadow.diff import Change, Nature
from shadow.hidden import Hidden, HiddenStep
from shadow.observation import Graph, Observation, Outcome, StepObservation, StepStatus
from shadow.plan import Mode, RunPlan
from shadow.rules import Tolerance
from shadow.signature import Area, Attribution, Difference
from shadow.store import RunRecord, Store
from tickover.execution import Purpose, System

STEPS = ("fetch", "think", "act", "note")
GRAPH = Graph(order=STEPS, needs={"fetch": (), "think": ("fetch",), "act": ("think",), "note": ("fetch",)})
WATCHED: Mapping[str, Any] = {"observed": ["http"], "unobserved": []}
BEGAN = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, kw_only=True)
class TickSample:
    """One tick as a test wants it. differs: the step at which the two part. hides: step -> rules that hid
    something."""

    kind: Kind = Kind.MATCH
    control: Outcome | None = Outcome.DONE
    candidate: Outcome | None = Outcome.DONE
    control_ms: float = 100.0
    candidate_ms: float = 90.0
    control_gave_up: bool = False
    candidate_gave_up: bool = False
    stratum: str | None = "plain"
    differs: str | None = None
    values: tuple[Any, Any] = (1, 2)
    idle: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    hides: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def make_run(
    store: Store,
    name: str,
    samples: Iterable[TickSample],
    *,
    status: str = "done",
    planned: int | None = None,
    every_s: float = 60.0,
    time_scale: float = 1.0,
    keys: Mapping[str, Any] | None = None,
    surface: Mapping[str, Any] | None = WATCHED,
) -> RunRecord:
    """A stored run of these ticks, through the store that runs use. Ticks are compared a minute apart."""
    ticks = list(samples)
    plan = RunPlan(
        run=name, workload="tests:none", ticks=planned or max(1, len(ticks)), every_s=every_s, time_scale=time_scale,
        seed=1, mode=Mode.RECORD, candidate=System.ASYNC,
    )  # fmt: skip
    store.create_run(plan, GRAPH, keys or {"behaviour": f"b-{name}", "judgement": "j"}, "test")
    record = store.run(name)
    for tick, sample in enumerate(ticks):
        store.claim_tick(name, tick, f"t{tick}", due_at=BEGAN, first="legacy", late_ms=0.0, overran=False)
        store.set_start(name, tick, None, sample.stratum)
        control, candidate = _observed(name, tick, sample, True), _observed(name, tick, sample, False)
        for seen in (control, candidate):
            if seen is not None:
                store.save_observation(seen)
        store.save_comparison(record, tick, _comparison(sample), control, candidate)
    with store.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE shadow_comparisons SET created_at = %(began)s::timestamptz + tick * %(every)s * interval '1 s' "
            "WHERE run = %(run)s",
            {"began": BEGAN, "run": name, "every": (every_s or 1.0) * time_scale},
        )
    if surface is not None:
        store.note_surface(name, surface)
    store.set_status(name, status)
    return store.run(name)


def random_tick(source: random.Random) -> TickSample:
    """A tick of any kind, with durations that now and then are far apart."""
    kind = source.choices(list(Kind), weights=[60, 3, 8, 3, 8, 5, 3, 2])[0]
    sample = TickSample(
        kind=kind,
        control_ms=source.lognormvariate(5, 1),
        candidate_ms=source.lognormvariate(5, 1),
        control_gave_up=kind in (Kind.IMPROVED, Kind.UNVERIFIED),
        candidate_gave_up=source.random() < 0.05,
        stratum=source.choice(["plain", "meta", None]),
        differs=source.choice(STEPS) if kind in (Kind.MISMATCH, Kind.CANDIDATE_FAILED, Kind.TOLERATED) else None,
        idle=("note",) if source.random() < 0.3 else (),
        rules=tuple(rule for rule in ("clock", "order") if source.random() < 0.1),
        hides={source.choice(STEPS): ("clock",)} if source.random() < 0.1 else {},
    )
    if kind in (Kind.CANDIDATE_FAILED, Kind.BOTH_FAILED):
        sample = replace(sample, candidate=source.choice([Outcome.FAILED, Outcome.LOST]))
    if kind is Kind.BOTH_FAILED:
        sample = replace(sample, control=Outcome.FAILED)
    if kind is Kind.NOT_COMPARED:
        sample = replace(sample, candidate=None, control=source.choice([None, Outcome.DONE]))
    return sample


def _observed(run: str, tick: int, sample: TickSample, is_control: bool) -> Observation | None:
    outcome = sample.control if is_control else sample.candidate
    if outcome is None:
        return None
    gave_up = sample.control_gave_up if is_control else sample.candidate_gave_up
    value = sample.values[0 if is_control else 1]
    lasted = sample.control_ms if is_control else sample.candidate_ms
    steps = {
        step: StepObservation(
            status=StepStatus.GAVE_UP if gave_up and step == "note" else StepStatus.DONE,
            result=value, started_ms=0.0, duration_ms=lasted / 4,
        )
        for step in STEPS
    }  # fmt: skip
    return Observation(
        run=run, tick=tick, system=System.LEGACY if is_control else System.ASYNC,
        purpose=Purpose.CONTROL if is_control else Purpose.CANDIDATE, outcome=outcome, duration_ms=lasted,
        started_at=BEGAN.isoformat(), visible=STEPS, steps=steps,
    )  # fmt: skip


def _comparison(sample: TickSample) -> Comparison:
    if sample.kind is Kind.NOT_COMPARED:
        return Comparison(kind=sample.kind, reason="the runner ended")
    steps = {step: StepVerdict.NOT_APPLICABLE if step in sample.idle else StepVerdict.EQUAL for step in STEPS}
    differences: tuple[Difference, ...] = ()
    attributions: tuple[Attribution, ...] = ()
    if sample.differs is not None:
        for step in STEPS:
            if sample.differs in GRAPH.before(step):
                steps[step] = StepVerdict.CONSEQUENCE
        steps[sample.differs] = StepVerdict.DIFFERS
        change = Change(path=("value",), nature=Nature.VALUE, control=sample.values[0], candidate=sample.values[1])
        differences = (Difference(step=sample.differs, area=Area.RESULT, change=change),)
        attributions = (Attribution(step=sample.differs, atoms=(differences[0].atom,)),)
    hides = {step: HiddenStep(rules=rules) for step, rules in sample.hides.items()}
    names = dict.fromkeys([*sample.rules, *(rule for rules in sample.hides.values() for rule in rules)])
    return Comparison(
        kind=sample.kind, reason="as sampled", steps=steps, differences=differences,
        attributions=attributions if sample.kind is not Kind.TOLERATED else (),
        tolerances=tuple(Tolerance(rule=rule, reason="because", owner="me") for rule in names),
        hidden=Hidden(kind="mismatch", steps=hides) if hides else None,
    )  # fmt: skip
