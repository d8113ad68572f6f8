"""Lives of an execution that chance seldom leads, told step by step; each ends in the state of the model."""

from __future__ import annotations

from collections.abc import Callable

from async_tick.claims import Claim
from tests.integration.step_machine import MAX_RECOVERIES, Life

SIBLINGS: list[set[int]] = [set(), set()]


def _taken(life: Life, name: str, owner: int) -> Claim:
    claim = life.claim(name, owner)
    assert claim is not None
    return claim


def _end(life: Life) -> None:
    life.the_database_agrees()
    life.teardown()


def a_zombie_is_refused(life: Life) -> None:
    """Swept, taken over, and then the first owner comes back with a result, an error, another attempt."""
    for comes_back in (
        lambda claim: life.finish_claim(claim, "done", 2),
        lambda claim: life.finish_claim(claim, "failed"),
        lambda claim: life.give_claim_back(claim, "now"),
        lambda claim: life.give_claim_back(claim, "fallback"),
    ):
        life.begin([set(), {0}], set())
        zombie = _taken(life, "s0", 11)
        life.sweep({11}, False)
        comes_back(zombie)
        second = _taken(life, "s0", 12)
        comes_back(zombie)
        life.heartbeat()
        life.finish_claim(second, "done", 1, [1])
        comes_back(zombie)
        _end(life)


def a_late_owner_of_nobody_is_refused(life: Life) -> None:
    """Given back for later, and finished all the same."""
    life.begin([set()], set())
    claim = _taken(life, "s0", 11)
    life.give_claim_back(claim, "later")
    life.finish_claim(claim, "done", 1)
    _end(life)


def a_sibling_goes_on(life: Life) -> None:
    """One of two is over, the other still runs: the execution is not over, and what needs both is not ready."""
    for optional in (set(), {0, 1}):
        life.begin([*SIBLINGS, {0, 1}], optional)
        first, second = _taken(life, "s0", 11), _taken(life, "s1", 12)
        life.finish_claim(second, "done", 1)
        life.finish_claim(first, "done", 1)
        _end(life)
    life.begin(SIBLINGS, {0, 1})
    first, second = _taken(life, "s0", 11), _taken(life, "s1", 12)
    life.finish_claim(first, "done", 1)
    life.finish_claim(second, "done", 1)
    _end(life)


def who_goes_on_leaves_what_waits_for_later(life: Life) -> None:
    """A sibling that is to be run again later is not taken along."""
    life.begin([*SIBLINGS, set()], set())
    first, second = _taken(life, "s0", 11), _taken(life, "s1", 12)
    life.give_claim_back(second, "later")
    life.finish_claim(first, "done", 0, [1])
    life.a_wait_is_over()
    _end(life)


def a_failure_cancels_what_runs(life: Life) -> None:
    """A critical step fails: its running sibling is cancelled, and what it computed is refused."""
    life.begin([*SIBLINGS, {0}], set())
    first, second = _taken(life, "s0", 11), _taken(life, "s1", 12)
    life.finish_claim(first, "failed")
    life.finish_claim(second, "done", 1)
    _end(life)


def a_fallback_is_no_attempt(life: Life) -> None:
    """Its claim does not count, nor does a recovery of it."""
    life.begin([set()], set())
    life.give_claim_back(_taken(life, "s0", 11), "fallback")
    life.the_database_agrees()
    _taken(life, "s0", 11)
    life.the_database_agrees()
    life.sweep({11}, True)
    _end(life)


def a_sweep_takes_what_is_dead_or_late(life: Life) -> None:
    """The dead lose their steps though the lease goes on, the paused theirs though they live; nobody else does."""
    life.begin([*SIBLINGS, set()], set())
    for name, owner in (("s0", 11), ("s1", 12), ("s2", 13)):
        _taken(life, name, owner)
    life.model.steps["s1"].expired = True
    life._change("lease_until = clock_timestamp() - interval '1 s'", ["s1"])
    life.sweep({11}, False)
    life.the_database_agrees()
    _end(life)


def who_hangs_ends_it_by_itself(life: Life) -> None:
    """The deadline has just passed, and the owner lives: no sweep takes what it is about to fail."""
    life.begin([set()], set())
    claim = _taken(life, "s0", 11)
    life._change("lease_until = now() - interval '100 ms', deadline = now() - interval '100 ms'", ["s0"])
    life.sweep(set(), False)
    life.finish_claim(claim, "failed")
    _end(life)


def what_a_sweep_cancels_stays_cancelled(life: Life) -> None:
    """A worker dies once too often with two steps: the one fails the execution, the other is not run again."""
    life.begin(SIBLINGS, set())
    for death in range(MAX_RECOVERIES + 1):
        for step in ("s0", "s1") if death == MAX_RECOVERIES else ("s0",):
            _taken(life, step, 11)
        life.sweep({11}, False)
    assert life.model.status == "failed"
    _end(life)


def starting_again_changes_nothing(life: Life) -> None:
    """Whatever runs, waits or is over."""
    life.begin([set(), {0}], set())
    first = _taken(life, "s0", 11)
    life.start_again()
    life.finish_claim(first, "done", 1)
    life.start_again()
    _end(life)


STORIES: dict[str, Callable[[Life], None]] = {
    story.__name__: story
    for story in (
        a_zombie_is_refused, a_late_owner_of_nobody_is_refused, a_sibling_goes_on,
        who_goes_on_leaves_what_waits_for_later, a_failure_cancels_what_runs, a_fallback_is_no_attempt,
        a_sweep_takes_what_is_dead_or_late, who_hangs_ends_it_by_itself,
        what_a_sweep_cancels_stays_cancelled, starting_again_changes_nothing,
    )
}  # fmt: skip
