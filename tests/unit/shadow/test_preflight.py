"""Tests of shadow.preflight: which evidence speaks for the code that would be put in charge, and what is shown."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from unittest.mock import patch

from async_tick.doctor import Finding, Level
from async_tick.route import Route
from shadow.keys import evidence_keys
from shadow.observation import Graph
from shadow.plan import Mode, RunPlan
from shadow.preflight import evidence_checks, route_checks, surroundings_checks
from shadow.rules import RuleBook
from shadow.store import RunRecord
from tests.integration.route_job import job
from tickover.execution import System

WORKLOAD = "tests.integration.route_job:job"
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
PLAN = RunPlan(
    run="r", workload=WORKLOAD, ticks=5, every_s=1, time_scale=1, seed=1, mode=Mode.RECORD, candidate=System.ASYNC
)


def _record(plan: RunPlan) -> RunRecord:
    rules = RuleBook()
    return RunRecord(
        run=plan.run, status="done", plan=plan, graph=Graph.of(job), judgement_key="", rules=rules, surface={},
        behaviour_key=evidence_keys(plan, job, rules)["behaviour"], started_at=NOW, finished_at=NOW,
    )  # fmt: skip


def _failed(record: RunRecord, age_h: float | None, workload: str = WORKLOAD) -> dict[str, str]:
    age = None if age_h is None else dt.timedelta(hours=age_h)
    return {each.name: each.said for each in evidence_checks(record, job, workload, age, 24) if not each.passed}


def test_evidence_of_this_code_that_is_fresh_passes() -> None:
    """The behaviour key is that of the code here, and the newest comparison is young enough."""
    assert _failed(_record(PLAN), 23.9) == {}


def test_evidence_that_is_old_or_none_fails() -> None:
    """A comparison past the policy's age, and a run without any."""
    assert "24.1 h old, 24 h are allowed" in _failed(_record(PLAN), 24.1)["freshness"]
    assert "no tick is compared yet" in _failed(_record(PLAN), None)["freshness"]


def test_evidence_of_other_code_fails() -> None:
    """Another workload, other code, and a run after the switchover in which the old system was on trial."""
    assert "other.job:job is served" in _failed(_record(PLAN), 1, "other.job:job")["evidence"]
    assert "ran other code" in _failed(replace(_record(PLAN), behaviour_key="x"), 1)["evidence"]
    reverse = _record(replace(PLAN, candidate=System.LEGACY))
    assert "tried legacy beside async" in _failed(reverse, 1)["evidence"]


def test_route_and_holds_cannot_be_forced() -> None:
    """Who is in charge already, and a hold: both bar the way whatever is said."""
    held = Route(owner=System.ASYNC, epoch=4, holds=2, author="ada", reason="", changed_at=NOW)
    checks = route_checks(held)
    assert [(check.name, check.passed, check.may_be_forced) for check in checks] == [
        ("route", False, False), ("holds", False, False),
    ]  # fmt: skip
    assert "nothing to switch" in checks[0].said and "tickover release" in checks[1].said


def test_what_the_doctor_found_is_shown_by_its_weight() -> None:
    """A problem fails, a warning is a note, what is well is counted. That no worker is there fails, although it is a
    warning to the doctor."""
    findings = [
        Finding(name="workers", level=Level.WARNING, said="none answers"),
        Finding(name="lease", level=Level.PROBLEM, said="short", remedy="set it"),
        Finding(name="pool", level=Level.WARNING, said="threads"), Finding(name="disk", level=Level.OK, said="room"),
    ]  # fmt: skip
    with patch("shadow.switch_store.overdue", return_value=3):
        found = {check.name: check for check in surroundings_checks(findings, workers=0)}
    assert not found["workers"].passed and "tickover worker" in found["workers"].said
    assert (found["lease"].passed, found["lease"].said) == (False, "short; set it")
    assert found["pool"].passed and found["pool"].is_note
    assert "disk" not in found and found["doctor"].said == "1 of 4 things are well"
    assert not found["backlog"].passed
