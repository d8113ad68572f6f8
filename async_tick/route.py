"""The route: which system is in charge, and how that changes.

One row with an epoch that grows at each move. Whoever writes for good takes the route's advisory lock shared and then
reads the epoch; a move takes the lock exclusively. So no tick has two owners or none, a writer of an older epoch is
refused, and a hold that was committed before a move wins.
"""

from __future__ import annotations

import datetime as dt
import getpass
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg2

from async_tick.adoption import ROUTE_LOCK
from async_tick.connection import LOST
from async_tick.guardrails import Guardrails
from tickover.canonical import canonical_text, parse
from tickover.errors import ConfigurationError, ExitCode, TickoverError
from tickover.execution import System
from tickover.ground.raw import DatabaseUnreachable, connect_raw

# How long a move waits for the tick that the old system is running, in seconds.
BOUNDARY_TIMEOUT_S = 600.0
# How long a session that moves or holds the route may do nothing between two statements, in seconds: its process was
# stopped (Ctrl-Z) or hangs, while ticks and a rollback wait for its locks. It is ended.
STALLED_S = 5.0


class Held(ConfigurationError):
    """Somebody holds the route: it does not move to the new system until the hold is released."""

    exit_code = ExitCode.NOT_READY


class RouteMoved(TickoverError):
    """The route is no longer where it was when the move was decided."""

    exit_code = ExitCode.NOT_READY


class NoBoundary(TickoverError):
    """The old system's tick did not end in time, so there was no boundary to move at."""

    exit_code = ExitCode.NOT_READY


class SessionLost(DatabaseUnreachable):
    """The session ended while the route was looked at or changed; what became of it must be read again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """Who is in charge, under which epoch, since when, by whom, and why; immutable. holds: how many hold it.
    guardrails: those that were set when the new system was put in charge, None for none."""

    owner: System
    epoch: int
    holds: int
    author: str
    reason: str
    changed_at: dt.datetime
    guardrails: Guardrails | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Hold:
    """A hold; immutable. released_at: None while it holds."""

    number: int
    author: str
    reason: str
    created_at: dt.datetime
    released_at: dt.datetime | None


_READ = "SELECT owner, epoch, holds, author, reason, changed_at, guardrails FROM route WHERE id = 1"


def who() -> str:
    """Who acts here, for the record: user and host."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


@contextmanager
def _session() -> Iterator[Any]:
    with closing(connect_raw(application_name="tickover route")) as connection:
        try:
            with connection, connection.cursor() as do:
                do.execute(f"SET LOCAL idle_in_transaction_session_timeout = {round(STALLED_S * 1000)}")
                yield do
        except LOST as error:
            if not connection.closed:
                raise
            raise SessionLost(
                f"PostgreSQL ended this session: the server stopped, or this process did nothing for {STALLED_S:g} s "
                "while ticks waited. `tickover route` shows whether the route has changed; then run the command again"
            ) from error


def _route(row: tuple[Any, ...]) -> Route:
    return Route(
        owner=System(row[0]), epoch=row[1], holds=row[2], author=row[3], reason=row[4], changed_at=row[5],
        guardrails=None if row[6] is None else Guardrails.from_json(parse(row[6])),
    )  # fmt: skip


def read_route() -> Route:
    """The route as it stands."""
    with _session() as do:
        do.execute(_READ)
        return _route(do.fetchall()[0])


def history() -> list[Route]:
    """Every route that there was, the first one first."""
    with _session() as do:
        do.execute("SELECT owner, epoch, 0, author, reason, changed_at, guardrails FROM route_history ORDER BY epoch")
        return [_route(row) for row in do.fetchall()]


def move(
    seen: Route, to: System, *, author: str, reason: str, timeout_s: float = BOUNDARY_TIMEOUT_S,
    guardrails: Guardrails | None = None, also: Callable[[Any, Route], None] | None = None,
) -> Route:  # fmt: skip
    """Put a system in charge, at a boundary between ticks, and return the new route.

    seen: the route that the decision was made on. A move to the new system is refused while anyone holds the route; a
    move back never is. The old system's running tick is waited for, `timeout_s` seconds at most; the new one's is
    fenced: nothing that it did counts yet. guardrails: what sends the route back by itself, None for nothing; a move
    to the old system has none. also: called in the move's transaction with its cursor and the new route, to write
    what is to be known of the move, or of no move. Raises Held, RouteMoved, NoBoundary, and then nothing has changed.
    """
    kept = None if guardrails is None or to is System.LEGACY else canonical_text(guardrails.to_json())
    with _session() as do:
        _limit(do, timeout_s)
        with _boundary(timeout_s):
            do.execute("SELECT pg_advisory_xact_lock(%s)", (ROUTE_LOCK,))
            do.execute(
                "UPDATE route SET owner = %s, epoch = epoch + 1, author = %s, reason = %s, "
                "guardrails = %s, changed_at = clock_timestamp() WHERE id = 1 AND epoch = %s AND (holds = 0 OR %s) "
                "RETURNING owner, epoch, holds, author, reason, changed_at, guardrails",
                (to.value, author, reason, kept, seen.epoch, to is System.LEGACY),
            )
        rows = do.fetchall()
        if not rows:
            do.execute(_READ)
            now = _route(do.fetchall()[0])
            if now.epoch != seen.epoch:
                raise RouteMoved(
                    f"the route has moved meanwhile: {now.owner} is in charge since epoch {now.epoch}; "
                    "`tickover route` shows it"
                )
            raise Held(
                f"the route is held by {now.holds}; `tickover route` shows why, `tickover release` ends a hold"
            )
        do.execute(
            "INSERT INTO route_history (epoch, owner, author, reason, changed_at, guardrails) "
            "VALUES (%s, %s, %s, %s, %s, %s)",
            (rows[0][1], rows[0][0], author, reason, rows[0][5], kept),
        )
        now = _route(rows[0])
        if also is not None:
            also(do, now)
        return now


@contextmanager
def between_ticks(timeout_s: float = BOUNDARY_TIMEOUT_S) -> Iterator[Any]:
    """A time in which the old system runs no tick and none begins; it yields a connection, not in autocommit, whose
    session keeps it so. Raises NoBoundary."""
    with closing(connect_raw(application_name="tickover route")) as connection:
        with connection, connection.cursor() as do:
            _limit(do, timeout_s)
            with _boundary(timeout_s):
                do.execute("SELECT pg_advisory_lock(%s)", (ROUTE_LOCK,))
        yield connection


def _limit(do: Any, timeout_s: float) -> None:
    """Wait for locks so long, and for nothing else less than it takes."""
    do.execute("SELECT set_config('lock_timeout', %s, true)", (f"{max(1, round(timeout_s * 1000))}ms",))
    do.execute("SET LOCAL statement_timeout = 0")


@contextmanager
def _boundary(timeout_s: float) -> Iterator[None]:
    """Raises NoBoundary for a lock that did not come in time."""
    try:
        yield
    except psycopg2.errors.LockNotAvailable as error:
        raise NoBoundary(
            f"a tick of the old system, or somebody who takes a hold, has not ended within {timeout_s:g} s; "
            "nothing was changed. Run the command again, or stop `tickover serve` first"
        ) from error


def hold(author: str, reason: str) -> int:
    """Keep the route from moving to the new system, and return the hold's number."""
    with _session() as do:
        do.execute("UPDATE route SET holds = holds + 1 WHERE id = 1")
        do.execute("INSERT INTO route_holds (author, reason) VALUES (%s, %s) RETURNING number", (author, reason))
        return int(do.fetchall()[0][0])


def release(number: int) -> None:
    """End a hold. Raises ConfigurationError if there is none of that number."""
    with _session() as do:
        do.execute(
            "UPDATE route_holds SET released_at = clock_timestamp() WHERE number = %s AND released_at IS NULL "
            "RETURNING number",
            (number,),
        )
        if not do.fetchall():
            raise ConfigurationError(f"there is no hold {number} to release; `tickover route` lists them")
        do.execute("UPDATE route SET holds = holds - 1 WHERE id = 1")


def holds() -> list[Hold]:
    """The holds that are in force."""
    with _session() as do:
        do.execute(
            "SELECT number, author, reason, created_at, released_at FROM route_holds WHERE released_at IS NULL "
            "ORDER BY number"
        )
        return [
            Hold(number=row[0], author=row[1], reason=row[2], created_at=row[3], released_at=row[4])
            for row in do.fetchall()
        ]
