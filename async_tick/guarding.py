"""Guarding: the guardrails read against what is in PostgreSQL, and the route moved back when one breaks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

from async_tick.connection import Pool
from async_tick.guardrails import AUTHOR, Guardrails, Usage, broken
from async_tick.rollback import move_back
from async_tick.route import Route, RouteMoved, read_route
from async_tick.worker import live_workers
from tickover.canonical import parse
from tickover.execution import System
from tickover.ground.raw import connect_raw

log = logging.getLogger(__name__)

# How many of the old system's latest ticks its median is taken of.
_BASELINE_TICKS = 200

_BASELINE = """
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) FROM (
    SELECT extract(epoch FROM adopted_at - claimed_at) * 1000 AS ms FROM ticks
    WHERE run = %s AND owner = 'legacy' AND outcome = 'done' ORDER BY tick DESC LIMIT %s) latest
"""

# The window is the first ticks of the epoch. A tick that still runs counts by what it has taken so far.
_USAGE = """
SELECT count(adopted_at), count(*) FILTER (WHERE outcome = 'failed'),
       coalesce(sum(floor(ms / nullif(interval_ms, 0))), 0),
       count(*) FILTER (WHERE ms > least(nullif(interval_ms, 0), %s)),
       count(*) FILTER (WHERE comparison = 'mismatch'),
       extract(epoch FROM clock_timestamp() - min(claimed_at) FILTER (WHERE adopted_at IS NULL))
FROM (SELECT adopted_at, claimed_at, outcome, interval_ms, comparison,
             extract(epoch FROM coalesce(adopted_at, clock_timestamp()) - claimed_at) * 1000 AS ms
      FROM ticks WHERE run = %s AND epoch = %s AND owner = 'async' ORDER BY tick LIMIT %s) first_ticks
"""
_GUARDRAILS = "SELECT guardrails FROM route WHERE id = 1 AND epoch = %s AND owner = 'async'"
_NOTE = "UPDATE ticks SET comparison = %s WHERE run = %s AND tick = %s AND beside = %s"

_notes = Pool("tickover comparisons")


def median_of_legacy(run: str) -> float | None:
    """The old system's median latency in the ticks of a loop's run, in milliseconds; None if it ran none."""
    with closing(connect_raw(application_name="tickover guardrails")) as connection:
        with connection, connection.cursor() as do:
            do.execute(_BASELINE, (run, _BASELINE_TICKS))
            found = do.fetchall()[0][0]
    return None if found is None else float(found)


def usage_of(do: Any, run: str, epoch: int, guardrails: Guardrails, unserved_s: float = 0.0) -> Usage:
    """How much of the guardrails the ticks of a run have used under an epoch. do: a cursor."""
    do.execute(_USAGE, (guardrails.limit_ms, run, epoch, guardrails.window_ticks))
    ticks, failed, lost, slow, mismatches, running_s = do.fetchall()[0]
    return Usage(
        ticks=ticks, failed=failed, lost=int(lost), slow=slow, mismatches=mismatches,
        running_s=None if running_s is None else float(running_s), unserved_s=unserved_s,
    )  # fmt: skip


def usages(route: Route) -> dict[str, Usage]:
    """How much of a route's guardrails is used, by the runs that have ticks under its epoch."""
    if route.guardrails is None:
        return {}
    with closing(connect_raw(application_name="tickover guardrails")) as connection:
        with connection, connection.cursor() as do:
            do.execute(
                "SELECT DISTINCT run FROM ticks WHERE epoch = %s AND owner = 'async' ORDER BY run", (route.epoch,)
            )
            runs = [row[0] for row in do.fetchall()]
            return {run: usage_of(do, run, route.epoch, route.guardrails) for run in runs}


def note_comparison(run: str, tick: int, beside: str, kind: str) -> None:
    """Keep what the comparison of a tick came to in the run beside it, for the guardrail on mismatches. It may be
    noted again; a tick that the route's move has given to another run is left alone."""
    _notes.rows(_NOTE, (kind, run, tick, beside))


class Guard:
    """A `serving.Watch` that moves the route back when a guardrail of it breaks. say: gets what happened."""

    def __init__(self, run: str, say: Callable[[str], None]) -> None:
        self._run, self._say = run, say
        self._alone_since: float | None = None

    def __call__(self, connection: Any, epoch: int, running_s: float | None) -> None:
        """Look once. A route that moves meanwhile is left where it went."""
        with connection, connection.cursor() as do:
            do.execute(_GUARDRAILS, (epoch,))
            found = do.fetchone()
            if found is None or found[0] is None:
                return
            guardrails = Guardrails.from_json(parse(found[0]))
            unserved_s = self._unserved_s(waits=running_s is not None)
            why = broken(guardrails, usage_of(do, self._run, epoch, guardrails, unserved_s))
        if why is not None:
            self._move_back(epoch, why)

    def _unserved_s(self, *, waits: bool) -> float:
        """How long no worker has been there while a tick waits."""
        if not waits or live_workers():
            self._alone_since = None
            return 0.0
        self._alone_since = self._alone_since or time.monotonic()
        return time.monotonic() - self._alone_since

    def _move_back(self, epoch: int, why: str) -> None:
        seen = read_route()
        if seen.epoch != epoch or seen.owner is not System.ASYNC:
            return
        try:
            with closing(connect_raw(application_name="tickover guardrail")) as own:
                own.autocommit = True
                with own.cursor() as do:
                    now = move_back(do, seen, AUTHOR, why)
        except RouteMoved as error:
            log.warning("guardrail.overtaken", extra={"run": self._run, "reason": str(error)})
            return
        log.warning("guardrail.broken", extra={"run": self._run, "epoch": now.epoch, "reason": why})
        self._say(f"guardrail: {why}; legacy is in charge again, epoch {now.epoch}")
