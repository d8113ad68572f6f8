"""Rollback: the old system in charge again, with all that was written since. It needs PostgreSQL and nothing else."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2

from async_tick.adoption import BOUNDARY_LOCK, ROUTE_LOCK, latest_state, owner_of
from async_tick.delivery import deliver_pending
from async_tick.loop import loop_lock
from async_tick.route import NoBoundary, Route, move, who
from async_tick.worker import live_workers
from tickover.boundary.home import HomeBusy, holding
from tickover.errors import ConfigurationError
from tickover.execution import System
from tickover.ground.raw import connect_raw
from tickover.workflow import Workflow

# How long the new system's running tick is waited for before it is fenced, in seconds.
WAIT_S = 10.0
# How long a session may keep the route from moving while the new system is in charge, in seconds: adoptions take
# milliseconds, so what holds it longer is stuck, and its session is ended.
STUCK_S = 1.0

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


@dataclass(frozen=True, kw_only=True, slots=True)
class RolledBack:
    """What a rollback did; immutable. fenced: whether a running tick of the new system was cut off, which the old one
    runs instead. written: the tick whose state the old system's store holds now, None where the loop writes it, or
    nothing had to be written; why_not: what kept it from being written here."""

    route: Route
    fenced: bool
    written: int | None
    why_not: str | None = None


def roll_back(
    seen: Route, workflow: Workflow, run: str, home: Path, *, author: str | None, reason: str, wait_s: float = WAIT_S
) -> RolledBack:
    """Move the route to the old system, and bring its store up to date where no loop is there to do so.

    A running tick of the new system is waited for, `wait_s` seconds at most and only while loop and workers live; 0
    fences it at once. What was adopted and not yet delivered is delivered. Raises RouteMoved.
    """
    if workflow.write_state is None:
        raise ConfigurationError(
            f"workflow {workflow.name} has no write_state, so its old system cannot get its state"
        )
    with closing(connect_raw(application_name="tickover rollback")) as connection:
        connection.autocommit = True
        with connection.cursor() as do:
            fenced = not _await_boundary(do, run, wait_s)
            now = move_back(do, seen, author or who(), reason)
            do.execute("SELECT pg_advisory_unlock_all()")
            do.execute(_LOCK_IS_FREE, (loop_lock(run),))
            if not do.fetchall()[0][0]:
                return RolledBack(route=now, fenced=fenced, written=None)
        # No loop is there, and none can begin while this connection holds its lock.
        return _write(now, fenced, workflow, run, home)


def _await_boundary(do: Any, run: str, wait_s: float) -> bool:
    """Keep further ticks from beginning, and wait for the running one; whether none runs."""
    do.execute("SET lock_timeout = '1s'")
    try:
        do.execute("SELECT pg_advisory_lock(%s)", (BOUNDARY_LOCK,))
    except psycopg2.errors.LockNotAvailable:
        wait_s = 0.0  # a loop is stuck between two ticks
    finally:
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


def _write(now: Route, fenced: bool, workflow: Workflow, run: str, home: Path) -> RolledBack:
    assert workflow.write_state is not None
    number, state = latest_state(run, workflow)
    written, why_not = None, None
    if number > 0 and owner_of(run, number - 1) is not System.LEGACY and owner_of(run, number) is not System.LEGACY:
        try:
            with holding(home, STUCK_S):
                workflow.write_state(home, state)
                written = number - 1
        except HomeBusy as error:
            why_not = str(error)
    deliver_pending(run, workflow, home)
    return RolledBack(route=now, fenced=fenced, written=written, why_not=why_not)
