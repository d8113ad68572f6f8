"""The tape in PostgreSQL: what is kept, and what takes whose place."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from tickover.ground.tape_store import PostgresTapeStore
from tickover.tape import TapeEntry


def entry(answer: Any, *, attempt: int = 1, occurrence: int = 0, error: Any = None) -> TapeEntry:
    return TapeEntry(
        run="r", tick=1, step="s", port="p", method="m", request={"share": "5 %", "like": "a%sb"}, request_hash="h",
        occurrence=occurrence, attempt=attempt, answer=answer, error=error, latency_ms=1.5, recorded_by="async",
    )  # fmt: skip


def test_a_replay_keeps_what_was_first_and_a_control_what_was_last(database: str) -> None:
    """`record` leaves an entry that is there alone; `replace_all` puts what a later attempt at it was answered in
    its place, all entries in one statement, whatever stands in them."""
    with closing(PostgresTapeStore(database)) as store:
        store.record(entry("first"))
        store.record(entry("second"))
        assert [one.answer for one in store.of_tick("r", 1)] == ["first"]
        last = [entry("third; DROP TABLE x --"), entry(None, attempt=2, error={"kind": "timeout", "message": "%"})]
        store.replace_all([*last, entry("again", occurrence=1)])
        store.replace_all([])
        assert sorted(store.of_tick("r", 1), key=lambda one: (one.attempt, one.occurrence)) == [
            last[0], entry("again", occurrence=1), last[1],
        ]  # fmt: skip
