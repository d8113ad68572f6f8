"""Mismatches in bursts: when a verdict warns of them, and in which words."""

from __future__ import annotations

import pytest

from reports.policy import Policy, load_policy
from reports.tally import Bursts, Tally
from reports.verdict import judge
from tests.unit.reports.verdict_sample import good


@pytest.fixture
def production() -> Policy:
    return load_policy("production")


def test_bursts_are_warned_of(production: Policy) -> None:
    """Mismatches in a row are said to be so, with the bound that bursts would give."""
    verdict = judge(good(whole=Tally(n=1440, bad=6), bursts=Bursts(longest_streak=6, episodes=1)), production)
    assert verdict.dependence.warning is not None
    mismatch = next(found for found in verdict.criteria if found.name == "mismatch")
    assert verdict.dependence.burst_bound == pytest.approx(10 * mismatch.bound)
    assert judge(good(), production).dependence.warning is None
    long = judge(good(whole=Tally(n=1440, bad=25), bursts=Bursts(longest_streak=25, episodes=1)), production)
    assert (long.dependence.burst, "bursts of 25 ticks" in (long.dependence.warning or "")) == (25, True)


def test_bursts_are_spoken_of_in_the_right_number(production: Policy) -> None:
    """One episode is one episode, two are episodes."""
    for episodes, said in ((1, "in 1 episode, at most 5"), (2, "in 2 episodes, at most 5")):
        bursts = Bursts(longest_streak=5, episodes=episodes)
        warning = judge(good(whole=Tally(n=1440, bad=6), bursts=bursts), production).dependence.warning
        assert warning is not None and said in warning
        assert warning.endswith("the bound is 11.77 % instead of 1.18 %")


def test_bursts_that_change_no_figure_are_not_warned_of(production: Policy) -> None:
    """Where each tick differs the bound is 100 % with bursts and without."""
    bursts = Bursts(longest_streak=40, episodes=1)
    found = judge(good(whole=Tally(n=40, bad=40), bursts=bursts), production).dependence
    assert (found.burst_bound, found.warning) == (1.0, None)
