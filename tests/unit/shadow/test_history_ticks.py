"""The history checker on ticks that count: planted violations of adoptions, effects, owners, epochs and states."""

from __future__ import annotations

import pytest

from shadow.violations import (
    Backwards,
    CommitLost,
    EffectDoubled,
    EffectLost,
    OwnerConflict,
    StaleCommit,
    StateBroken,
    TickTwice,
    WrittenApart,
)
from tests.unit.shadow.history_made import RUN, Story, mark, only


def test_a_tick_adopted_twice() -> None:
    """The second adoption is found, whoever made it."""
    story = Story()
    story.async_tick(0)
    story.commit(story.changed("ticks", (0,), presented=True, adopted_at="later"),
                 ("states", "update", {"run": RUN, "tick": 0}, {"run": RUN, "tick": 0, "document": "d"}))  # fmt: skip
    found = story.check(1).violations
    assert {type(each) for each in found} == {TickTwice, Backwards}
    assert "adopted 2 times" in str(found[0])


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
