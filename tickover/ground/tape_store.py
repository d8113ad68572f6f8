"""The tape in PostgreSQL: table `tape_entries`, one row for each recorded call."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection

from tickover.canonical import canonical_text, parse
from tickover.tape import TapeEntry

_COLUMNS = (
    "run, tick, step, port, method, request, request_hash, occurrence, attempt, answer, error, latency_ms, "
    "recorded_by, execution_id, missed"
)
_SELECT = f"SELECT {_COLUMNS} FROM tape_entries"
INSERT = (
    f"INSERT INTO tape_entries ({_COLUMNS}) VALUES "
    "(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
)
REPLACE = INSERT.removesuffix("DO NOTHING") + (
    "(run, tick, step, request_hash, occurrence, attempt, recorded_by) DO UPDATE SET (answer, error, latency_ms, "
    "execution_id, missed) = (excluded.answer, excluded.error, excluded.latency_ms, excluded.execution_id, "
    "excluded.missed)"
)
_ORDER = " ORDER BY id"


def row_of(entry: TapeEntry) -> tuple[Any, ...]:
    """The values of an entry, in the order in which `INSERT` takes them. Raises NotCanonical."""
    return (
        entry.run,
        entry.tick,
        entry.step,
        entry.port,
        entry.method,
        canonical_text(entry.request),
        entry.request_hash,
        entry.occurrence,
        entry.attempt,
        canonical_text(entry.answer),
        None if entry.error is None else canonical_text(entry.error),
        entry.latency_ms,
        entry.recorded_by,
        entry.execution_id,
        entry.missed,
    )


def entry_of(row: Sequence[Any]) -> TapeEntry:
    """The entry that a row holds."""
    return TapeEntry(
        run=row[0],
        tick=row[1],
        step=row[2],
        port=row[3],
        method=row[4],
        request=parse(row[5]),
        request_hash=row[6],
        occurrence=row[7],
        attempt=row[8],
        answer=parse(row[9]),
        error=None if row[10] is None else parse(row[10]),
        latency_ms=row[11],
        recorded_by=row[12],
        execution_id=row[13],
        missed=row[14],
    )


class PostgresTapeStore:
    """A tickover.tape.TapeStore on one connection of its own, which it opens when it is first asked, and again after
    it broke. Threads of a process may share it. url: None takes the database of the settings."""

    _shared: PostgresTapeStore | None = None
    _shared_pid = 0
    _shared_lock = threading.Lock()

    def __init__(self, url: str | None = None) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._connection: Connection | None = None

    @classmethod
    def shared(cls) -> PostgresTapeStore:
        """The store of this process; a forked child gets one of its own."""
        with cls._shared_lock:
            if cls._shared is None or cls._shared_pid != os.getpid():
                cls._shared, cls._shared_pid = cls(), os.getpid()
            return cls._shared

    def entries(self, run: str, tick: int, step: str) -> list[TapeEntry]:
        """All entries of a step of a tick, in the order in which they were recorded."""
        return self._read(_SELECT + " WHERE run = %s AND tick = %s AND step = %s" + _ORDER, (run, tick, step))

    def of_tick(self, run: str, tick: int) -> list[TapeEntry]:
        """All entries of a tick, in the order in which they were recorded."""
        return self._read(_SELECT + " WHERE run = %s AND tick = %s" + _ORDER, (run, tick))

    def record(self, entry: TapeEntry) -> None:
        """Keep an entry for good; one with the same key, attempt and recorder stays as it was."""
        self.record_all((entry,))

    def record_all(self, entries: Iterable[TapeEntry]) -> None:
        """Keep several entries, all or none."""
        self._write(INSERT, entries)

    def replace_all(self, entries: Iterable[TapeEntry]) -> None:
        """Keep several entries, all or none, each in place of one with the same key, attempt and recorder."""
        self._write(REPLACE, entries)

    def _write(self, statement: str, entries: Iterable[TapeEntry]) -> None:
        rows = [row_of(entry) for entry in entries]

        def write(connection: Connection) -> None:
            with connection, connection.cursor() as cursor:
                # Whatever commits afterwards and waits for the disk takes this along: no step waits for its calls.
                # All of it in one round trip, for it is a step that waits.
                parts = [b"SET LOCAL synchronous_commit = off", *(cursor.mogrify(statement, row) for row in rows)]
                cursor.execute(b";".join(parts))

        if rows:
            self._with_connection(write)

    def close(self) -> None:
        """Close the connection; the next use opens one."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _read(self, statement: str, values: tuple[Any, ...]) -> list[TapeEntry]:
        found: list[TapeEntry] = []

        def read(connection: Connection) -> None:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement, values)
                found[:] = [entry_of(row) for row in cursor.fetchall()]

        self._with_connection(read)
        return found

    def _with_connection(self, use: Any) -> None:
        """Run `use` on the connection; once more on a new one if the old one turns out to be dead. Both reads and
        the insert that keeps what is there may be repeated."""
        from tickover.ground.raw import connect_raw

        with self._lock:
            if self._connection is not None and not self._connection.closed:
                try:
                    use(self._connection)
                    return
                except (psycopg2.DatabaseError, psycopg2.InterfaceError) as error:
                    if isinstance(error, psycopg2.DatabaseError) and error.pgcode is not None:
                        raise
                    self._connection.close()
            self._connection = connect_raw(self._url, application_name="tickover tape")
            use(self._connection)
