"""The history checker: clean histories have no violation, and each planted one is found and named: executions."""

from __future__ import annotations

import pytest

from shadow.ledger import Change, Note
from shadow.violations import (
    Backwards,
    CommitLost,
    EffectDoubled,
    EffectLost,
    StaleCommit,
    TickMissing,
    TickStuck,
    TickTwice,
    TickUndone,
    WrittenApart,
)
from tests.unit.shadow.history_made import RUN, STEPS, Story, only


def test_a_clean_run_breaks_nothing() -> None:
    """Both systems in turn, a rollback in the middle of a tick, a step taken from a dead worker, a repeated delivery:
    all of it is allowed, and counted."""
    story = Story("legacy")
    story.legacy_tick(0)
    story.move("async")
    story.async_tick(1)
    # A worker dies with a step, the sweeper takes it, and another one finishes it.
    story.take(2)
    story.begin(2)
    story.claim(2, "think", "dead")
    story.commit(story.step(2, "think", "ready", token=None, owner=None, caller="tickover_sweep"))
    story.steps(2)
    # The runner dies, and another one takes the tick over; what was delivered before its row said so comes again.
    story.take(2, token="other")
    story.adopt(2)
    story.receipt(2, "think")
    for step in STEPS:
        story.deliver(2, step)
    story.told(2)
    # A rollback fences the new system's tick: what it did is scratch, and the old system runs it.
    story.take(3)
    story.begin(3)
    story.claim(3, "think")
    story.move("legacy")
    story.take(3, token="third")
    story.legacy(3)
    story.end(3, "think")
    story.adopt(3)
    # The old system's runner dies in mid-tick, after a move: the tick stays its own, and is lost.
    story.take(4)
    story.legacy(4, ends=False)
    story.take(4, owner="legacy", token="fifth")
    story.adopt(4, "lost")
    checked = story.check(5, outcomes=frozenset({"done", "lost"}))
    assert checked.sound, str(checked)
    assert (checked.ticks, checked.recovered, checked.repeated, checked.delivered) == (5, 1, 1, 5)
    assert checked.owners == {"legacy": 3, "async": 2}
    assert "no promise is broken" in str(checked)


def test_executions_without_a_loop() -> None:
    """Executions that were started by themselves need no adoption."""
    story = Story()
    story.begin(0, state="any")
    story.steps(0)
    story.told(0, owner="async")
    assert story.check(1, adopted=False).sound
    story.notes.append(Note(kind="told", run=RUN, tick=1, owner="async", outcome="done"))
    assert only(story.check(1, adopted=False), CommitLost).found == "not begun"
    story.notes.pop()
    assert only(story.check(2, adopted=False), TickMissing).tick == 1


def test_other_runs_are_not_looked_at() -> None:
    """A broken run beside the one that is asked for changes nothing."""
    story = Story()
    story.async_tick(0)
    story.commit(("ticks", "insert", None, {"run": "other", "tick": 0, "owner": "legacy", "epoch": 9}))
    story.commit(("effects", "delete", {"workflow_id": 77, "key": "k"}, None))
    assert story.check(1).sound


def test_a_tick_that_was_never_begun() -> None:
    """It is missing, by number."""
    story = Story()
    story.async_tick(0)
    assert only(story.check(2), TickMissing).tick == 1


def test_a_stuck_tick_is_named_with_what_it_waits_for() -> None:
    """A step that runs for ever, without a loop and with one."""
    story = Story()
    story.begin(0, state="any")
    story.claim(0, "think")
    assert "think is running, act is waiting" in only(story.check(1, adopted=False), TickStuck).standing
    story.take(0)
    assert "async owns it, think is running" in only(story.check(1), TickStuck).standing


def test_an_execution_that_never_ends_though_its_steps_did() -> None:
    """It is stuck, and the text says so."""
    story = Story()
    story.begin(0, state="any")
    story.steps(0)
    story.commit(("workflows", "update", None, {**story.rows["workflows", 0], "status": "running"}))
    found = story.check(1, adopted=False).violations
    assert any(isinstance(each, TickStuck) and "its steps are over" in each.standing for each in found)


def test_a_tick_that_failed() -> None:
    """An outcome that was not expected is told, with its reason."""
    story = Story()
    story.begin(0, state="any")
    story.claim(0, "think")
    story.commit(
        story.step(0, "think", "failed", token=None, presented=True, caller="tickover_complete"),
        story.step(0, "act", "cancelled"),
        story.changed("workflows", (0,), status="failed", error="think: broke"),
    )
    found = only(story.check(1, adopted=False), TickUndone)
    assert (found.outcome, found.reason) == ("failed", "think: broke")
    assert story.check(1, adopted=False, outcomes=frozenset({"failed"})).sound


@pytest.mark.parametrize("deed", ["told to be over", "begun by the old system", "started"])
def test_a_tick_done_twice_beside_the_database(deed: str) -> None:
    """Told twice, run twice by the old system, or run in two executions."""
    story = Story("async" if deed == "started" else "legacy")
    story.async_tick(0) if deed == "started" else story.legacy_tick(0)
    if deed == "told to be over":
        story.told(0)
    elif deed == "started":
        second = {**story.rows["workflows", 0], "id": 99, "execution_id": "r/0/async/control/2"}
        story.commit(("workflows", "insert", None, second))
    else:
        story.legacy(0)
    found = only(story.check(1), TickTwice)
    assert (found.what, found.times) == (deed, 2)


@pytest.mark.parametrize(
    ("relation", "operation", "told"),
    [
        ("workflow_checkpoints", "update", "the checkpoint of think was updated"),
        ("workflow_checkpoints", "delete", "the checkpoint of think was deleted"),
        ("effects", "update", "effect 0/think/k/0 was updated"),
        ("effects", "delete", "effect 0/think/k/0 was deleted"),
        ("step_runs", "update", "step think was done and became ready"),
        ("step_runs", "delete", "step think was deleted"),
        ("workflows", "update", "it was done and became running"),
        ("workflows", "delete", "its execution was deleted"),
    ],
)
def test_what_was_final_and_changes(relation: str, operation: str, told: str) -> None:
    """A checkpoint, an effect, an ended step or execution that is altered or removed went backwards, by name."""
    story = Story()
    story.begin(0, state="any")
    story.steps(0)
    row = {
        "workflow_checkpoints": {"workflow_id": 0, "stage": "think", "tick_number": 0},
        "effects": story.effect(0, "think"),
        "step_runs": {**story.rows["step_runs", 0, "think"], "status": "ready"},
        "workflows": {**story.rows["workflows", 0], "status": "running"},
    }[relation]
    old = story.rows["step_runs", 0, "think"] if relation == "step_runs" else row
    story.commit((relation, operation, old, None if operation == "delete" else row))
    found = [each for each in story.check(1, adopted=False).violations if isinstance(each, Backwards)]
    assert told in {each.what for each in found}
    assert all(each.commit == story.number for each in found if each.what == told)


def test_a_checkpoint_of_another_tick() -> None:
    """A checkpoint with an older tick's number is found."""
    story = Story()
    story.begin(0, state="any")
    story.claim(0, "think")
    changes = story.ending(0, "think", presented=True)
    story.commit(*((*each[:3], {**each[3], "tick_number": 4}) if each[0] == "workflow_checkpoints" else each
                   for each in changes))  # fmt: skip
    story.claim(0, "act")
    story.end(0, "act")
    assert only(story.check(1, adopted=False), Backwards).what == "the checkpoint of think is of tick 4"


def test_a_step_before_its_need() -> None:
    """A step that runs before what it needs is over is found."""
    story = Story()
    story.begin(0, state="any")
    story.commit(story.step(0, "act", "ready"))
    assert "act became ready before think" in story.check(1, adopted=False).violations[0].what  # type: ignore[attr-defined]


@pytest.mark.parametrize("lacking", ["workflow_checkpoints", "step_runs", "checkpoint of effect"])
def test_what_belongs_together_is_committed_together(lacking: str) -> None:
    """The end of a step, its checkpoint and its effects, each without the others, are found."""
    story = Story()
    story.begin(0, state="any")
    story.claim(0, "think")
    changes = story.ending(0, "think", presented=True)
    if lacking == "checkpoint of effect":
        story.commit(*(each for each in changes if each[0] != "effects"))
        story.commit(*(each for each in changes if each[0] == "effects"))
    else:
        story.commit(*(each for each in changes if each[0] != lacking))
    told = {
        "workflow_checkpoints": "step think was ended without its checkpoint",
        "step_runs": "the checkpoint of think was written without the end of its step",
        "checkpoint of effect": "effect 0/think/k/0 was written without its checkpoint",
    }[lacking]
    found = [each.what for each in story.check(1, adopted=False).violations if isinstance(each, WrittenApart)]
    assert told in found


def test_a_step_that_loses_its_effects() -> None:
    """Fewer effects than the step declares, though its checkpoint stands, are lost; more are doubled."""
    story = Story()
    story.begin(0, state="any")
    story.steps(0)
    lost = only(story.check(1, adopted=False, effects={"think": 2, "act": 1}), EffectLost)
    assert lost.effect == "think" and "has 1 of 2" in lost.place
    doubled = only(story.check(1, adopted=False, effects={"think": 1, "act": 0}), EffectDoubled)
    assert doubled.effect == "act"


@pytest.mark.parametrize("status", ["done", "failed", "ready", "not_applicable", "running"])
def test_a_commit_without_the_token(status: str) -> None:
    """Whoever changes a running step without its token had been fenced by it; the token and the commit are named."""
    story = Story()
    story.begin(0, state="any")
    story.claim(0, "think", "heir")
    story.commit(story.step(0, "think", status, token="stale", caller="tickover_complete"))
    found = [each for each in story.check(1, adopted=False).violations if isinstance(each, StaleCommit)]
    assert [(each.fence, each.commit) for each in found] == [("token heir-0-think", story.number)]


def test_an_end_of_a_step_that_nobody_held() -> None:
    """A step that is done without having been claimed was finished by a fenced owner."""
    story = Story()
    story.begin(0, state="any")
    story.end(0, "think")
    found = [each for each in story.check(1, adopted=False).violations if isinstance(each, StaleCommit)]
    assert [each.fence for each in found] == ["its status, which was ready"]


def test_the_sweeper_needs_no_token_for_what_it_may_do() -> None:
    """It takes a step and fails one, but it cannot finish one."""
    story = Story()
    story.begin(0, state="any")
    story.claim(0, "think")
    story.commit(
        story.step(0, "think", "failed", token=None, caller="tickover_sweep"), story.step(0, "act", "cancelled"),
        story.changed("workflows", (0,), status="failed", error="its worker died 6 times"),
    )  # fmt: skip
    assert story.check(1, adopted=False, outcomes=frozenset({"failed"})).sound
    story.begin(1)
    story.claim(1, "think")
    story.end(1, "think", presented=False, caller="tickover_sweep")
    found = list(story.check(1, adopted=False, outcomes=frozenset({"failed"})).violations)
    assert [type(each) for each in found] == [StaleCommit]


def test_the_text_of_a_check_names_every_violation() -> None:
    """One line of counts, and one for each promise that is broken."""
    story = Story()
    checked = story.check(2)
    lines = str(checked).splitlines()
    assert "2 promises are broken" in lines[0]
    assert lines[1:] == ["tick 0 of run r was never begun", "tick 1 of run r was never begun"]
    lines = str(story.check(50)).splitlines()
    assert "50 promises are broken" in lines[0] and len(lines) == 22 and lines[-1] == "and 30 more"


def test_changes_of_executions_from_before_the_watch() -> None:
    """Steps of executions that the ledger did not see begin are left alone."""
    story = Story()
    story.changes.append(
        Change(commit=9, relation="step_runs", operation="update", old={"workflow_id": 5}, new={"workflow_id": 5})
    )
    assert story.check(0).sound
