"""Drills in PostgreSQL, and what a report counts of them."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest

from shadow.drill_facts import SideFacts
from shadow.drill_store import DrillStore, UnknownDrill
from shadow.drill_text import trial_document, trial_lines
from shadow.faults import Shot
from tickover.errors import ConfigurationError
from tickover.execution import System
from tickover.ground.database import engine

GOOD = SideFacts(
    outcome="done", recovered=True, reason="", seconds=1.0, judged_s=1.0, again=1, lost=0, doubled=0, half_done=0,
    late=0, refused=0, stale=0, same_state=True,
)  # fmt: skip
BAD = replace(GOOD, recovered=False, outcome="lost", seconds=None, judged_s=None)


def shot(kind: str, seed: int = 1) -> Shot:
    return Shot(kind=kind, steps=("action",), seed=seed)


def keep(store: DrillStore, drill: str, kinds: list[str], key: str = "key", *, is_evidence: bool = True) -> None:
    store.create(drill, "run", key, "plan", [shot(kind) for kind in kinds], 0.05, is_evidence=is_evidence)


def trial(
    store: DrillStore, drill: str, number: int, kind: str, new: SideFacts | None, old: SideFacts | None
) -> None:  # fmt: skip
    store.begin_trial(drill, number, shot(kind), 3, System.ASYNC)
    sides = {System.ASYNC: new, System.LEGACY: old}
    ledger = [{"at": 5.0, "pid": 1, "event": "struck", "kind": kind, "step": "action"}]
    store.keep_sides(
        drill, number,
        {s: (facts, {"facts": facts.to_json(), "ledger": ledger}) for s, facts in sides.items() if facts is not None},
    )  # fmt: skip


def test_a_drill_comes_back_as_it_was_kept(database: str) -> None:
    """Its plan, in order, and what is done of it."""
    store = DrillStore(engine(database))
    keep(store, "d", ["hang", "lost_hint"])
    trial(store, "d", 1, "lost_hint", GOOD, None)
    found = store.drill("d")
    assert [each.kind for each in found.shots] == ["hang", "lost_hint"]
    assert found.started_at <= dt.datetime.now(dt.UTC) and found.finished_at is None
    assert store.done("d") == {1} and [each.drill for each in store.drills()] == ["d"]
    store.finish("d")
    assert store.drill("d").finished_at is not None
    with pytest.raises(UnknownDrill, match="tickover drills"):
        store.drill("nothing")


def test_what_is_counted_of_drills(database: str) -> None:
    """What the candidate recovered from, late, lost and doubled, and pairs with the old system, by kind."""
    store = DrillStore(engine(database))
    keep(store, "d", ["hang"] * 5)
    trial(store, "d", 0, "hang", GOOD, GOOD)
    trial(store, "d", 1, "hang", GOOD, BAD)
    trial(store, "d", 2, "hang", BAD, GOOD)
    trial(store, "d", 3, "hang", replace(GOOD, judged_s=31.0, seconds=3.0), BAD)
    trial(store, "d", 4, "hang", replace(GOOD, lost=2, doubled=1), BAD)
    keep(store, "e", ["lost_hint"])
    trial(store, "e", 0, "lost_hint", GOOD, None)
    keep(store, "other", ["hang"], key="another behaviour")
    trial(store, "other", 0, "hang", BAD, BAD)
    hang, hint = store.counts("key", System.ASYNC, 30.0)
    assert (hang.new_n, hang.new_recovered, hang.late, hang.lost, hang.doubled) == (5, 4, 1, 1, 1)
    assert (hang.old_n, hang.old_recovered, hang.pairs, hang.new_s) == (5, 2, (5, 1, 3), 1.0)
    assert (hint.kind, hint.new_n, hint.old_n, hint.pairs) == ("lost_hint", 1, 0, (0, 0, 0))


def test_a_trial_without_an_end_did_not_recover(database: str) -> None:
    """It was begun, and nobody knows how it ended: that counts against the candidate."""
    store = DrillStore(engine(database))
    keep(store, "d", ["hang"])
    store.begin_trial("d", 0, shot("hang"), 3, System.LEGACY)
    (found,) = store.counts("key", System.ASYNC, 30.0)
    assert (found.new_n, found.new_recovered, found.old_n) == (1, 0, 0)


def test_a_single_trial_is_no_evidence(database: str) -> None:
    """Who looks at one trial again and again adds nothing to what is counted."""
    store = DrillStore(engine(database))
    keep(store, "d", ["hang"], is_evidence=False)
    trial(store, "d", 0, "hang", GOOD, GOOD)
    assert store.counts("key", System.ASYNC, 30.0) == []


def test_behind_the_new_system_the_old_one_is_the_candidate(database: str) -> None:
    """A fault without counterpart in the candidate is no trial of it."""
    store = DrillStore(engine(database))
    keep(store, "d", ["hang", "lost_hint"])
    trial(store, "d", 0, "hang", GOOD, BAD)
    trial(store, "d", 1, "lost_hint", GOOD, None)
    hang, hint = store.counts("key", System.LEGACY, 30.0)
    assert (hang.new_n, hang.new_recovered, hang.pairs) == (1, 0, (1, 1, 0))
    assert hint.new_n == 0


def test_a_trial_is_kept_once(database: str) -> None:
    """What a system did is written once: a second writing changes nothing."""
    store = DrillStore(engine(database))
    keep(store, "d", ["hang"])
    trial(store, "d", 0, "hang", GOOD, None)
    trial(store, "d", 0, "hang", BAD, BAD)
    (found,) = store.trials("d")
    assert found.sides[System.ASYNC]["facts"]["recovered"] is True


def test_a_trial_is_shown_around_its_fault(database: str) -> None:
    """Facts and a timeline; what the drill does not have is said."""
    store = DrillStore(engine(database))
    keep(store, "d", ["hang"])
    trial(store, "d", 0, "hang", GOOD, BAD)
    document = trial_document(engine(database), "d", 0)
    assert document is not None
    lines = "\n".join(trial_lines(document))
    assert "async: recovered" in lines and "legacy: did not recover" in lines
    assert "+0.000 s  process 1        FAULT hang in action" in lines
    assert trial_document(engine(database), "no drill", 0) is None
    with pytest.raises(ConfigurationError, match="has not begun a trial 7"):
        trial_document(engine(database), "d", 7)
