"""Tests of reports.verdict: steps that apply on few ticks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reports.criterion import Status
from reports.policy import Policy, load_policy
from reports.tally import Tally
from reports.verdict import Decision, Verdict, judge
from tests.unit.reports.verdict_sample import good


@pytest.fixture
def production() -> Policy:
    return load_policy("production")


def criterion(verdict: Verdict, name: str) -> Any:
    return next(found for found in verdict.criteria if found.name == name)


def test_ready_does_not_wait_for_a_step_that_seldom_applies(production: Policy) -> None:
    """A clean day in which a step applied on each fifth tick is READY, unless the policy has a rule for that step."""
    day = good(steps={**good().steps, "meta": Tally(n=288, not_applied=1152)})
    ready = judge(day, production)
    assert ready.decision is Decision.READY
    assert (criterion(ready, "mismatch/meta").critical, criterion(ready, "mismatch/meta").status) == (
        False, Status.OPEN,
    )  # fmt: skip
    asked = judge(day, replace(production, steps={"meta": production.step_mismatch}))
    assert (asked.decision, asked.needed.ticks_if_clean) == (Decision.KEEP_RUNNING, 5 * (694 - 288))


def test_ready_waits_for_a_step_that_never_applied(production: Policy) -> None:
    """What was not seen once is not known, however often it did not apply."""
    day = good(steps={**good().steps, "meta": Tally(not_applied=1440)})
    assert judge(day, production).decision is Decision.KEEP_RUNNING


def test_a_step_that_seldom_applies_can_prove_not_ready(production: Policy) -> None:
    """Five of its eight ticks differ, which is little of a day of ticks: the step is named, and bars READY."""
    few = good(
        steps={**good().steps, "meta": Tally(n=8, bad=5, not_applied=1432)}, whole=Tally(n=1440, bad=5)
    )  # fmt: skip
    verdict = judge(few, production)
    assert verdict.decision is Decision.NOT_READY
    assert "Step meta" in verdict.reasons[0]


def test_a_step_that_seldom_applies_needs_more_ticks_of_the_run(production: Policy) -> None:
    """What is needed is said in ticks of the run, not of the step."""
    verdict = judge(good(steps={**good().steps, "meta": Tally(n=144)}), production)
    assert criterion(verdict, "mismatch/meta").more_if_clean == (694 - 144) * 10
