"""Rollback: the old system in charge again, with all that was written since. It needs PostgreSQL and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psycopg2

from async_tick.adoption import BOUNDARY_LOCK, ROUTE_LOCK, latest_state
from async_tick.connection import LOST
from async_tick.handover import is_behind, mark_written
from async_tick.loop import loop_lock
from async_tick.route import NoBoundary, Route, RouteMoved, move, read_route, who
from async_tick.worker import live_workers
from tickover.boundary.home import HomeBusy, holding
from tickover.errors import ConfigurationError
from tickover.execution import System
from tickover.ground.raw import DatabaseUnreachable, connect_raw
from tickover.workflow import Workflow

# How long the new system's running tick is waited for before it is fenced, in seconds.
WAIT_S = 10.0
# How long a session may keep the route from moving while the new system is in charge, in seconds: adoptions take
# milliseconds, so what holds it longer is stuck, and its session is ended.
STUCK_S = 1.0
# How long a rollback that does nothing may keep ticks from beginning, in seconds: one that was stopped (Ctrl-Z) waits
# longer between two statements than one that works ever does, and its session is ended.
STALLED_S = 5.0
# How long a database that does not answer is waited for, in seconds: a restart takes a few.
PATIENCE_S = 20.0
_AGAIN_S = 0.2

_OPEN = """
SELECT EXISTS (SELECT FROM ticks t, route r WHERE t.adopted_at IS NULL AND t.owner = 'async' AND t.epoch = r.epoch
               AND t.run = %s)
"""
_HOLDERS = """
SELECT count(pg_terminate_backend(l.pid)) FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted
AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
AND l.classid = 0 AND l.objid = %s AND l.objsubid = 1 AND l.pid <> pg_backend_pid()
"""
_LOCK_IS_FREE = "SELECT pg_try_advisory_lock(%s)"
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, slots=True)
class RolledBack:
    """What a rollback did; immutable. moved: False where the old system was in charge already, and an earlier
    rollback was ended. fenced: whether a running tick of the new system was cut off, which the old one runs instead.
    loop_is_there: a loop serves the run, and writes the old system's store itself. written: the tick whose state that
    store got here; why_not: what kept it from being written, None where there was nothing to write."""

    route: Route
    moved: bool = True
    fenced: bool = False
    loop_is_there: bool = False
    written: int | None = None
    why_not: str | None = None


def patiently(act: Callable[[], _T], *, say: Callable[[str], None] = lambda text: None) -> _T:
    """What `act` gives, which is called again while PostgreSQL does not answer or ends its session, for PATIENCE_S
    seconds; so it must be such that it may be called again. say: is told once. Raises what it raised last."""
    deadline, told = time.monotonic() + PATIENCE_S, False
    while True:
        try:
            return act()
        except (*LOST, DatabaseUnreachable) as error:
            if time.monotonic() >= deadline:
                raise
            if not told:
                say(f"PostgreSQL does not answer, trying for {PATIENCE_S:g} s: {str(error).strip()}")
            told = True
            time.sleep(_AGAIN_S)  # the pace of asking a server that restarts


def roll_back(
    seen: Route, workflow: Workflow, run: str, home: Path, *, author: str | None, reason: str, wait_s: float = WAIT_S
) -> RolledBack:
    """Move the route to the old system, and bring its store up to date where no loop is there to do so.

    seen: the route that the decision was made on. A running tick of the new system is waited for, `wait_s` seconds at
    most and only while loop and workers live; 0 fences it at once. Where the old system is in charge already, what an
    earlier rollback could not do is done. What was adopted and not yet delivered stays where it is: see
    `async_tick.delivery`. Raises RouteMoved if the new system was put in charge once more.
    """
    if workflow.write_state is None:
        raise ConfigurationError(
            f"workflow {workflow.name} has no write_state, so its old system cannot get its state"
        )
    return patiently(lambda: _attempt(seen, workflow, run, home, author or who(), reason, wait_s))


def _attempt(
    seen: Route, workflow: Workflow, run: str, home: Path, author: str, reason: str, wait_s: float
) -> RolledBack:
    """One attempt, which does what is still to be done: an earlier one may have been cut off anywhere."""
    with closing(connect_raw(application_name="tickover rollback")) as connection:
        connection.autocommit = True
        with connection.cursor() as do:
            now, fenced = read_route(), False
            if now.owner is not System.LEGACY:
                do.execute("SELECT set_config('idle_session_timeout', %s, false)", (f"{round(STALLED_S * 1000)}ms",))
                fenced = not _await_boundary(do, run, wait_s)
                now = _back(do, seen, author, reason)
            moved = seen.owner is not System.LEGACY
            do.execute("SELECT pg_advisory_unlock_all(), set_config('idle_session_timeout', '0', false)")
            do.execute(_LOCK_IS_FREE, (loop_lock(run),))
            if not do.fetchall()[0][0]:
                return RolledBack(route=now, moved=moved, fenced=fenced, loop_is_there=True)
            # No loop is there, and none can begin while this connection holds its lock.
            written, why_not = _write(do, workflow, run, home)
        return RolledBack(route=now, moved=moved, fenced=fenced, written=written, why_not=why_not)


def _back(do: Any, seen: Route, author: str, reason: str) -> Route:
    """The route with the old system in charge, whoever put it there."""
    try:
        return move_back(do, seen, author, reason)
    except RouteMoved:
        now = read_route()
        if now.owner is not System.LEGACY:
            raise
        return now


def _await_boundary(do: Any, run: str, wait_s: float) -> bool:
    """Keep further ticks from beginning, and wait for the running one; whether none runs."""
    do.execute("SET lock_timeout = '1s'")
    try:
        do.execute("SELECT pg_advisory_lock(%s)", (BOUNDARY_LOCK,))
    except psycopg2.errors.LockNotAvailable:
        wait_s = 0.0  # a loop is stuck between two ticks
    do.execute("SET lock_timeout = 0")
    deadline = time.monotonic() + wait_s
    while _is_open(do, run):
        if time.monotonic() >= deadline or not _is_served(do, run):
            return False
        time.sleep(0.02)  # the pace of asking for the end of a tick
    return True


def _is_open(do: Any, run: str) -> bool:
    do.execute(_OPEN, (run,))
    return bool(do.fetchall()[0][0])


def _is_served(do: Any, run: str) -> bool:
    """Whether a loop and a worker are there, so that a running tick can end."""
    do.execute(_LOCK_IS_FREE, (loop_lock(run),))
    if do.fetchall()[0][0]:
        do.execute("SELECT pg_advisory_unlock(%s)", (loop_lock(run),))
        return False
    return live_workers() > 0


def move_back(do: Any, seen: Route, author: str, reason: str) -> Route:
    """Put the old system in charge, and end the sessions that keep the route from moving. do: a cursor of a
    connection in autocommit. Raises RouteMoved."""
    try:
        return move(seen, System.LEGACY, author=author, reason=reason, timeout_s=STUCK_S)
    except NoBoundary:
        do.execute(_HOLDERS, (ROUTE_LOCK,))
        return move(seen, System.LEGACY, author=author, reason=reason)


def _write(do: Any, workflow: Workflow, run: str, home: Path) -> tuple[int | None, str | None]:
    """Bring the old system's store up to date: the tick whose state it got, and what kept it from getting it.

    do: of the session that holds the loop's lock.
    """
    assert workflow.write_state is not None
    if not is_behind(run, latest_state(run, workflow)[0], home):
        return None, None
    try:
        with holding(home, STUCK_S):
            # Who holds the home and finds its session alive was not overtaken: no old system has run, and none can.
            do.execute("SELECT 1")
            number, state = latest_state(run, workflow)
            if not is_behind(run, number, home):
                return None, None
            workflow.write_state(home, state)
            mark_written(run, number, home)
    except HomeBusy as error:
        return None, str(error)
    except (*LOST, DatabaseUnreachable):
        raise
    except Exception as error:  # noqa: BLE001 - it is the user's code, and the route has moved already
        return None, f"write_state of {workflow.name} failed: {type(error).__name__}: {error}"
    return number - 1, None
