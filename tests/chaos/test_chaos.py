"""Many ticks in flight, while everything that carries them is killed, paused and cut off at random."""

from __future__ import annotations

import os

import pytest

from tests.chaos.chaos_run import ChaosEnd, run_chaos
from tests.chaos.troubles import MEMBER_TROUBLES, SERVER_TROUBLES, all_members, draw

# Rounds of the long run.
ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "200"))
# The short run's: always the same, so that whoever changes the engine meets what the last one met.
SHORT_SEED, SHORT_ROUNDS = 7911, 6


def _kept_its_promises(ended: ChaosEnd) -> None:
    print(ended)
    if ended.stuck or not ended.checked.sound:
        logs = "\n".join(f"--- {name}\n{text}" for name, text in ended.logs.items())
        pytest.fail(f"{logs}\n{ended}\nto have it again: CHAOS_SEED={ended.seed} make chaos", pytrace=False)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_no_tick_is_lost_doubled_or_stuck(seed: int) -> None:
    """After each round ticks go on, and at the end the ledger bears out every promise."""
    ended = run_chaos(seed, ROUNDS, workers=3, loops=3)
    _kept_its_promises(ended)
    assert ended.checked.ticks > ROUNDS, "too few ticks were in flight to prove anything"


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_many_troubles_at_once(seed: int) -> None:
    """The same where up to five things go wrong at the same time, fewer rounds of it."""
    ended = run_chaos(seed, max(1, ROUNDS // 4), workers=3, loops=2, most=5)
    _kept_its_promises(ended)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_few_rounds_of_it() -> None:
    """The same with a fixed seed and few rounds: a worker and a loop are killed, both servers crash, a
    worker outlives its leases in a pause, and a line stalls."""
    struck = {(trouble.kind, trouble.victim.rstrip("0123456789"))
              for troubles in draw(SHORT_SEED, SHORT_ROUNDS, all_members(2, 1)) for trouble in troubles}  # fmt: skip
    assert {("kill", "worker"), ("kill", "loop"), ("crash", "postgres"), ("crash", "redis")} <= struck, struck
    _kept_its_promises(run_chaos(SHORT_SEED, SHORT_ROUNDS, workers=2, loops=1))


def test_every_trouble_is_drawn() -> None:
    """A long run meets every kind, and a seed gives the same run each time."""
    drawn = draw(1, 200, all_members(3, 3))
    assert drawn == draw(1, 200, all_members(3, 3))
    kinds = {(trouble.kind, trouble.victim) for troubles in drawn for trouble in troubles}
    assert {kind for kind, _ in kinds} >= MEMBER_TROUBLES.keys()
    assert kinds >= SERVER_TROUBLES.keys()
    assert {victim for _, victim in kinds} == {*all_members(3, 3), "postgres", "redis"}
