"""What a trial's ledger, effects and final state say of a system: recovered or not, when, and at what cost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from digital_being import heavy_tick
from shadow.drill_facts import SideFacts, Timing, facts
from shadow.drill_trial import SideRun
from shadow.faults import KINDS
from shadow.observation import Observation, Outcome, StepObservation, StepStatus
from tickover.execution import Purpose, System

TIMING = Timing(limit_s=2.0, waits_s=[1.0, 2.0], lease_s=24.0)
EFFECTS = (("monologue", "memories", "a"), ("action", "notes", "n"), ("social", "letters", "l"))


def seen(system: System, outcome: Outcome = Outcome.DONE, **statuses: StepStatus) -> Observation:
    steps = {name: StepObservation(status=statuses.get(name, StepStatus.DONE)) for name in heavy_tick.order}
    return Observation(
        run="r", tick=1, system=system, purpose=Purpose.DRILL, outcome=outcome, duration_ms=1.0, started_at="",
        error=None if outcome is Outcome.DONE else "broken; see a log", steps=steps,
    )  # fmt: skip


def event(at: float, what: str, pid: int = 1, **more: Any) -> dict[str, Any]:
    return {"at": at, "pid": pid, "event": what, "step": "action", **more}


def calm(system: System = System.ASYNC) -> SideRun:
    return SideRun(system=system, seen=seen(system), state={"x": 1}, effects=EFFECTS, late=0)


def entered(at: float, pid: int = 1, attempt: int = 1) -> dict[str, Any]:
    return event(at, "entered", pid, attempt=attempt)


def committed(at: float, pid: int = 1, *, attempt: int = 1, accepted: bool = True) -> dict[str, Any]:
    return event(at, "committed", pid, attempt=attempt, status="done", accepted=accepted)


STRUCK = event(10.0, "struck")


def of(kind: str, *ledger: dict[str, Any], system: System = System.ASYNC, **changed: Any) -> SideFacts:
    run = replace(calm(system), ledger=ledger, **changed)
    return facts(heavy_tick, KINDS[kind], "action", calm(system), run, TIMING)


def test_a_killed_worker_is_recovered_from_by_its_heir() -> None:
    """Seconds run from the fault to the heir's entry; one step ran again; nothing is lost or doubled."""
    found = of("killed_process", entered(9.5), STRUCK, entered(10.8, 2), committed(11.2, 2))
    assert (found.recovered, found.again, found.lost, found.doubled, found.stale) == (True, 1, 0, 0, 0)
    assert found.seconds == pytest.approx(0.8) and found.judged_s == pytest.approx(0.8)


def test_a_zombie_is_refused_and_the_lease_is_counted_in_full() -> None:
    """The refusal is counted; what is judged has the lease that a worker has outside of drills."""
    found = of(
        "paused_process", entered(9.5), STRUCK, entered(16.0, 2), committed(16.3, 2),
        committed(16.4, 1, accepted=False),
    )  # fmt: skip
    assert (found.recovered, found.refused, found.stale) == (True, 1, 0)
    assert found.seconds == pytest.approx(6.0) and found.judged_s == pytest.approx(30.0)


def test_a_stale_commit_would_be_seen() -> None:
    """Two accepted commits of one step: one of them came from somebody who had lost it."""
    found = of("paused_process", entered(9.5), STRUCK, entered(16.0, 2), committed(16.3, 2), committed(16.4, 1))
    assert found.stale == 1


def test_a_retry_is_judged_with_its_whole_wait() -> None:
    """At a smaller scale a retry waits less: what is judged has the wait of the run's own scale."""
    found = of(
        "transient_error", entered(9.9), STRUCK, event(10.0, "given_back", attempt=1, accepted=True),
        entered(10.1, 1, 2), committed(10.4, attempt=2),
    )  # fmt: skip
    assert found.seconds == pytest.approx(0.1) and found.judged_s == pytest.approx(1.1)


def test_a_hang_counts_from_the_steps_limit() -> None:
    """Until then nothing is wrong by the step's own declaration."""
    found = of("hang", entered(10.0), STRUCK, entered(17.0, 1, 2), committed(17.2, attempt=2))
    assert found.seconds == pytest.approx(5.0)


def test_an_uninterrupted_step_counts_to_its_commit() -> None:
    """A step that worked on through a restart of the database is safe when its commit is."""
    found = of("database_restart", entered(9.9), STRUCK, committed(12.0))
    assert (found.recovered, found.again) == (True, 0) and found.seconds == pytest.approx(2.0)


def test_too_late_is_not_recovered() -> None:
    """Beyond its window, fixed beforehand, a recovery is none."""
    found = of("killed_process", entered(9.5), STRUCK, entered(40.0, 2), committed(40.2, 2))
    assert not found.recovered and "window" in found.reason


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"state": {"x": 2}}, "final state"),
        ({"effects": EFFECTS[:-1]}, "effects differ"),
        ({"seen": seen(System.ASYNC, social=StepStatus.FAILED)}, "step social is failed instead of done"),
        ({"seen": seen(System.ASYNC, Outcome.FAILED)}, "the tick is failed: broken"),
        ({"seen": None, "unended": "it did not end"}, "it did not end"),
    ],
)
def test_what_differs_from_an_undisturbed_run_is_not_recovered(changed: dict[str, Any], said: str) -> None:
    """State, effects, statuses and outcome: each alone is enough, and is named."""
    found = of("killed_process", STRUCK, entered(10.5, 2), committed(10.7, 2), **changed)
    assert not found.recovered and said in found.reason and "see a log" not in found.reason


def test_lost_and_doubled_effects_are_counted() -> None:
    """A tick that says it is done: what is missing is lost, what is there twice is doubled."""
    found = of("killed_process", STRUCK, effects=(EFFECTS[0], EFFECTS[0], EFFECTS[1]))
    assert (found.lost, found.doubled) == (1, 1)


def test_a_failed_tick_has_lost_nothing_and_left_what_it_left() -> None:
    """Who says that a tick failed claims no effect of it; what is there all the same is half a tick."""
    found = of("transient_error", STRUCK, system=System.LEGACY, seen=seen(System.LEGACY, Outcome.FAILED),
               effects=EFFECTS[:1])  # fmt: skip
    assert (found.lost, found.half_done) == (0, 1)


def test_a_lost_tick_of_the_old_system_has_lost_its_effects() -> None:
    """Its process died and it is not run again: what is missing is missing for good."""
    found = of("killed_process", STRUCK, system=System.LEGACY, seen=seen(System.LEGACY, Outcome.LOST),
               effects=EFFECTS[:1])  # fmt: skip
    assert (found.lost, found.half_done, found.recovered) == (2, 1, False)


def test_a_tick_that_goes_on_has_lost_nothing_yet() -> None:
    """The new system's tick that had no end within its time did not recover, and has lost nothing."""
    found = of("killed_process", STRUCK, seen=None, unended="it goes on", effects=())
    assert (found.recovered, found.lost, found.half_done) == (False, 0, 0)


def test_effects_of_a_step_that_was_given_up_are_not_lost() -> None:
    """A step that the system itself reports as failed made nothing, and is counted as not recovered."""
    found = of("transient_error", STRUCK, seen=seen(System.ASYNC, social=StepStatus.FAILED), effects=EFFECTS[:-1])
    assert (found.lost, found.recovered) == (0, False)


@pytest.mark.parametrize(
    ("step", "run", "recovered"),
    [
        ("social", {"seen": seen(System.ASYNC, social=StepStatus.FAILED), "effects": EFFECTS[:-1]}, True),
        ("social", {"seen": seen(System.ASYNC, Outcome.FAILED), "effects": ()}, False),
        ("goal_selection", {"seen": seen(System.ASYNC, goal_selection=StepStatus.FALLBACK)}, True),
        ("goal_selection", {"seen": seen(System.ASYNC, Outcome.FAILED), "effects": ()}, False),
        ("action", {"seen": seen(System.ASYNC, Outcome.FAILED), "effects": ()}, True),
        ("action", {"seen": seen(System.ASYNC, Outcome.FAILED), "effects": EFFECTS[:1]}, False),
        ("action", {}, False),
    ],
    ids=["alone", "takes the tick down", "fallback", "without it", "nothing left", "half done", "hidden"],
)
def test_a_permanent_error_is_to_be_confined(step: str, run: dict[str, Any], recovered: bool) -> None:
    """An optional step fails alone, a fallback stands in, a critical step's tick leaves nothing behind."""
    ran = replace(calm(), ledger=(STRUCK,), **run)
    found = facts(heavy_tick, KINDS["permanent_error"], step, calm(), ran, TIMING)
    assert found.recovered is recovered, found.reason
