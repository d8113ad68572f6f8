"""A hold against the move, statement by statement."""

from __future__ import annotations

import os
import random

import pytest

from tests.chaos.races import Tally, run_races


def _races(count: int) -> Tally:
    seed = int(os.environ.get("RACES_SEED") or random.SystemRandom().randrange(1_000_000))
    print(f"RACES_SEED={seed}")
    tally = run_races(count, seed)
    print(f"{tally.races} races, {tally.moved} moved, {tally.held} held; first hold: {dict(tally.orders)}")
    return tally


SHORT = pytest.mark.timeout(300)
LONG = [pytest.mark.chaos, pytest.mark.timeout(3_600)]


@pytest.mark.parametrize(
    "count", [pytest.param(200, marks=SHORT, id="short"), pytest.param(10_000, marks=LONG, id="long")]
)
def test_no_committed_hold_is_overrun(database: str, count: int) -> None:
    """Whatever the order of their statements: a hold that was committed before the move's update wins, and the
    orders that matter do occur."""
    tally = _races(count)
    assert tally.overrun == []
    assert tally.races == count and tally.held > count // 10 and tally.moved > count // 20
    assert all(
        tally.orders[place] > count // 100
        for place in ("after the move's lock", "after the move's update had begun", "after the move")
    ), tally.orders


def test_a_move_that_does_not_read_the_holds_again_is_found_out(database: str) -> None:
    """The same races tell a move that trusts the holds it once read."""
    tally = run_races(40, 1, {"AND (holds = 0 OR %s)": "AND (%s IS NOT NULL)"})
    assert tally.rewritten > 0 and tally.overrun
