"""Tests of reports.plan: when READY can be had at the earliest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reports.plan import plan
from reports.policy import Policy, Rule, load_policy


@pytest.fixture
def production() -> Policy:
    return load_policy("production")


def test_the_plan_says_when_ready_can_be_had(production: Policy) -> None:
    """A tick a minute: 694 clean ticks, 1409 with one mismatch, and a day of real time in any case."""
    found = plan(production, 60.0)
    assert (found.ticks_clean, found.ticks_after_one) == (694, 1409)
    assert found.seconds_clean == 24 * 3600
    assert plan(production, 600.0).seconds_clean == 694 * 600


def test_the_plan_counts_drills_and_blocks(production: Policy) -> None:
    """Recovery takes 33 drills that succeed, 68 with one that does not; typical speed five blocks of sixty ticks."""
    found = plan(production, 60.0)
    assert (found.drills_clean, found.drills_after_one) == (33, 68)
    speed = next(row for row in found.rows if row.name == "speed")
    assert (speed.clean, speed.after_one, speed.critical) == (300, 300, False)
    assert plan(load_policy("scaled"), 60.0).drills == ()


def test_a_plan_that_cannot_be_told_is_none_and_not_now(production: Policy) -> None:
    """A budget that takes more ticks than the horizon gives no number, rather than none at all."""
    found = plan(replace(production, mismatch=Rule(budget=1e-9)), 60.0)
    assert (found.ticks_clean, found.seconds_clean) == (None, None)


def test_a_plan_in_scaled_time_leaves_timings_out(production: Policy) -> None:
    """A critical timing criterion does not hold up a scaled run."""
    policy = replace(production, far_tail=replace(production.far_tail, budget=0.0001, critical=True))
    assert plan(policy, 60.0).ticks_clean == 34_760
    assert plan(policy, 60.0, 0.01).ticks_clean == 694
