"""The history checker: clean histories have no violation, and each planted one is found and named."""

from __future__ import annotations

from typing import Any

import pytest

from shadow.history import Checked
from shadow.ledger import Change
from shadow.violations import (
    Backwards,
    CommitLost,
    EffectDoubled,
    EffectLost,
    OwnerConflict,
    StaleCommit,
    StateBroken,
    TickMissing,
    TickStuck,
    TickTwice,
    TickUndone,
    Violation,
    WrittenApart,
)
from tests.unit.shadow.history_made import RUN, STEPS, Story, mark


def only(checked: Checked, kind: type[Violation]) -> Any:
    """The one violation that a check found, which is of this kind; its text names the tick."""
    assert [type(each) for each in checked.violations] == [kind], str(checked)
    assert "of run r" in str(checked.violations[0])
    return checked.violations[0]


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
    assert story.check(1, adopted=False).sound
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


def test_a_tick_adopted_twice() -> None:
    """The second adoption is found, whoever made it."""
    story = Story()
    story.async_tick(0)
    story.commit(story.changed("ticks", (0,), presented=True, adopted_at="later"),
                 ("states", "update", {"run": RUN, "tick": 0}, {"run": RUN, "tick": 0, "document": "d"}))  # fmt: skip
    found = story.check(1).violations
    assert {type(each) for each in found} == {TickTwice, Backwards}
    assert "adopted 2 times" in str(found[0])


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


def test_states_out_of_order() -> None:
    """The states of a run follow each other without a gap or a step back."""
    story = Story()
    story.async_tick(0)
    story.take(2)
    story.begin(2)
    story.steps(2)
    story.adopt(2)
    found = [each for each in story.check(1).violations if isinstance(each, Backwards)]
    assert [each.what for each in found] == ["its state follows that of tick 0"]


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


@pytest.mark.parametrize("lacking", ["ticks", "states", "outbox"])
def test_an_adoption_is_one_transaction(lacking: str) -> None:
    """Tick, state and outbox, each in a transaction of its own, are found."""
    story = Story()
    story.take(0)
    story.begin(0)
    story.steps(0)
    changes = story.adoption(0)
    story.commit(*(each for each in changes if each[0] != lacking))
    story.commit(*(each for each in changes if each[0] == lacking))
    assert {type(each) for each in story.check(1, delivered=False, receives=None).violations} == {WrittenApart}


def test_a_step_that_loses_its_effects() -> None:
    """Fewer effects than the step declares, though its checkpoint stands, are lost; more are doubled."""
    story = Story()
    story.begin(0, state="any")
    story.steps(0)
    lost = only(story.check(1, adopted=False, effects={"think": 2, "act": 1}), EffectLost)
    assert lost.effect == "think" and "has 1 of 2" in lost.place
    doubled = only(story.check(1, adopted=False, effects={"think": 1, "act": 0}), EffectDoubled)
    assert doubled.effect == "act"


@pytest.mark.parametrize("where", ["outbox", "delivery", "receiver", "deleted"])
def test_a_lost_effect(where: str) -> None:
    """An effect that never entered the outbox, still waits, was marked but not received, or was deleted."""
    story = Story()
    story.take(0)
    story.begin(0)
    story.steps(0)
    story.commit(*(each for each in story.adoption(0) if where != "outbox" or each[0] != "outbox" or
                   each[3]["step"] != "act"))  # fmt: skip
    story.deliver(0, "think")
    if where == "receiver":
        story.commit(story.changed("outbox", (0, "act"), delivered_at="now"))
    if where == "deleted":
        story.deliver(0, "act")
        story.commit(("outbox", "delete", story.rows["outbox", 0, "act"], None))
    found = only(story.check(1), EffectLost)
    assert found.effect == "0/act/k/0"
    assert {"outbox": "from the outbox", "delivery": "still waits", "receiver": "at its receiver",
            "deleted": "it was deleted"}[where] in found.place  # fmt: skip


@pytest.mark.parametrize("how", ["undeclared", "other payload", "not adopted", "outbox payload"])
def test_a_doubled_effect(how: str) -> None:
    """An effect in the outbox or at a receiver that no execution declared, or with another payload."""
    story = Story()
    story.take(0)
    story.begin(0)
    story.steps(0)
    changes = story.adoption(0)
    if how == "undeclared":
        changes.append(("outbox", "insert", None, {**changes[-1][3], "key": "0/act/k/1", "delivered_at": "now"}))
    if how == "outbox payload":
        changes[-1][3]["payload"] = mark("other")
    story.commit(*changes)
    story.deliver(0, "think")
    if how == "outbox payload":
        story.commit(story.changed("outbox", (0, "act"), delivered_at="now"))
        story.receipt(0, "act", mark("other"))
    else:
        story.deliver(0, "act")
    if how == "other payload":
        story.receipt(0, "act", mark("other"))
    if how == "not adopted":
        story.receipt(7, "act")
    found = list(story.check(1, receives=None if how == "undeclared" else lambda kind: True).violations)
    assert [type(each) for each in found] == [EffectDoubled]
    assert found[0].tick == (7 if how == "not adopted" else 0)


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


def test_an_adoption_without_the_token() -> None:
    """A runner from which the tick was taken adopts it all the same."""
    story = Story()
    story.take(0)
    story.begin(0)
    story.steps(0)
    story.take(0, token="heir")
    story.adopt(0, presented=False)
    found = only(story.check(1, delivered=False, receives=None), StaleCommit)
    assert (found.what, found.fence) == ("adopted it", "token heir")


@pytest.mark.parametrize("deed", ["claimed", "adopted"])
def test_a_commit_under_an_old_epoch(deed: str) -> None:
    """A claim or an adoption after the move that ended its epoch is found, in the order of the commits."""
    story = Story()
    if deed == "claimed":
        story.move("async")
        story.take(0, epoch=1)
    else:
        story.take(0)
        story.begin(0)
        story.steps(0)
        story.move("async")
        story.adopt(0)
    found = [each for each in story.check(1).violations if isinstance(each, StaleCommit)]
    assert [(each.what, each.fence) for each in found] == [(f"{deed} it under epoch 1", "epoch 2")]


def test_an_epoch_that_shrinks() -> None:
    """The route's epoch only grows, and no owner changes without it."""
    story = Story(epoch=5)
    story.commit(("route", "update", {"owner": "async", "epoch": 5}, {"owner": "async", "epoch": 4}))
    assert [type(each) for each in story.check(0).violations] == [Backwards]
    story = Story(epoch=5)
    story.commit(("route", "update", {"owner": "async", "epoch": 5}, {"owner": "legacy", "epoch": 5}))
    assert "within an epoch" in str(story.check(0).violations[0])


@pytest.mark.parametrize("how", ["not in charge", "taken from legacy", "old system acted", "old system did not act",
                                 "old system did not end", "outbox of legacy"])  # fmt: skip
def test_a_tick_with_two_owners_or_none(how: str) -> None:
    """Each way to have another owner than the one in charge, two of them, or none."""
    story = Story("legacy")
    if how == "not in charge":
        story.take(0, owner="async")
    elif how == "taken from legacy":
        story.take(0)
        story.legacy(0)
        story.move("async")
        story.take(0, owner="async")
    elif how == "old system acted":
        story.move("async")
        story.async_tick(0)
        story.legacy(0)
    elif how == "outbox of legacy":
        story.take(0)
        story.legacy(0)
        story.commit(*story.adoption(0), story.entry(0, "think"))
        story.deliver(0, "think")
    else:
        story.take(0)
        if how == "old system did not end":
            story.legacy(0, ends=False)
        story.adopt(0)
    found = [each for each in story.check(1).violations if isinstance(each, OwnerConflict)]
    assert found, how
    assert {
        "not in charge": "was given to async under epoch 1, and was legacy's",
        "taken from legacy": "after legacy under epoch 1, and was legacy's",
        "old system acted": "the old system ran it, and async owns it",
        "old system did not act": "the old system never began it",
        "old system did not end": "the old system never ended it",
        "outbox of legacy": "async's effects were adopted",
    }[how] in found[0].what


def test_an_adoption_that_its_execution_does_not_bear_out() -> None:
    """A tick adopted as done while its execution still runs is nobody's work."""
    story = Story()
    story.take(0)
    story.begin(0)
    story.adopt(0)
    found = list(story.check(1, delivered=False, receives=None).violations)
    assert any(isinstance(each, OwnerConflict) and "its execution is running" in each.what for each in found)


@pytest.mark.parametrize("owner", ["async", "legacy"])
def test_a_tick_that_begins_with_another_state(owner: str) -> None:
    """The state handed over is the one that the tick before left; both digests are told."""
    story = Story(owner)
    story.async_tick(0) if owner == "async" else story.legacy_tick(0)
    story.take(1)
    if owner == "async":
        story.begin(1, state=mark("old"))
        story.steps(1)
    else:
        story.legacy(1, state=mark("old"))
    story.adopt(1)
    found = only(story.check(2, delivered=False, receives=None), StateBroken)
    assert (found.owner, found.before, found.began_with) == (owner, mark("state 0"), mark("old"))


def test_what_somebody_was_told_and_the_database_forgot() -> None:
    """A tick that was told to be over and is not, or otherwise, is a commit that was lost."""
    story = Story()
    story.take(0)
    story.begin(0)
    story.told(0)
    found = [each for each in story.check(1).violations if isinstance(each, CommitLost)]
    assert [(each.told, each.found) for each in found] == [("done by async", "not over by async")]


def test_the_text_of_a_check_names_every_violation() -> None:
    """One line of counts, and one for each promise that is broken."""
    story = Story()
    checked = story.check(2)
    lines = str(checked).splitlines()
    assert "2 promises are broken" in lines[0]
    assert lines[1:] == ["tick 0 of run r was never begun", "tick 1 of run r was never begun"]


def test_changes_of_executions_from_before_the_watch() -> None:
    """Steps of executions that the ledger did not see begin are left alone."""
    story = Story()
    story.changes.append(
        Change(commit=9, relation="step_runs", operation="update", old={"workflow_id": 5}, new={"workflow_id": 5})
    )
    assert story.check(0).sound
