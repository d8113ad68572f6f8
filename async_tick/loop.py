"""The loop: one tick after another through the system in charge, adopted and delivered."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from async_tick.connection import LOST
from async_tick.serving import Server, TickEnd
from tickover.draws import seed_of
from tickover.errors import ConfigurationError, InfrastructureError
from tickover.ground.raw import connect_raw

log = logging.getLogger(__name__)

# How long the loop waits before it connects again to a database that went away, in seconds.
RECONNECT_S = 0.5
# How long the lock of a session that was cut off may outlive it, in seconds.
OLD_SESSION_S = 30.0

_HELD = """
SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = %s AND objid = %s
AND objsubid = 1 AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
"""

Tell = Callable[[TickEnd, bool], None]


class Loop:
    """Runs a workflow every `every_s` seconds (at scale 1) under the name `run`. One process per run at a time.

    Each tick goes to the system in charge. It goes on where it was: after the last adopted tick, and with the
    execution that was begun, which is joined. A tick that the old system had begun is not run again: it is lost.
    """

    def __init__(self, server: Server, *, every_s: float) -> None:
        self.server, self.run = server, server.run
        self.interval = dt.timedelta(seconds=every_s * server.time_scale)
        self.stopped = server.stopped

    def stop(self) -> None:
        """End after the running tick; one of the new system goes on without the loop, and is joined by the next."""
        self.stopped.set()

    def serve(self, ticks: int | None, tell: Tell) -> int:
        """Run ticks until `ticks` are done (None: until `stopped` is set) and return how many were.

        `tell` gets how each tick ended, and whether it overran its interval. A database that goes away is waited for,
        once it was there. Raises ConfigurationError if another process serves the run.
        """
        done, connected = 0, False
        due = dt.datetime.now(dt.UTC)
        with closing(self.server):
            while not self._is_over(done, ticks):
                try:
                    with self._connection(patient=connected) as connection:
                        connected = True
                        while not self._is_over(done, ticks):
                            self.stopped.wait(max(0.0, (due - dt.datetime.now(dt.UTC)).total_seconds()))
                            ended = None if self.stopped.is_set() else self._tick(connection, due)
                            if ended is None:
                                # Stopped, or the route has moved: who is in charge now runs the tick at once.
                                continue
                            now = dt.datetime.now(dt.UTC)
                            overran = self.interval > dt.timedelta(0) and now > due + self.interval
                            # A tick that overruns delays the next; what was missed is not made up for.
                            due = now if overran else due + self.interval
                            done += 1
                            tell(ended, overran)
                except (*LOST, InfrastructureError) as error:
                    if not connected:
                        raise
                    log.warning("loop.interrupted", extra={"run": self.run, "reason": str(error).strip()})
                    self.stopped.wait(RECONNECT_S)
        return done

    def _tick(self, connection: Any, due: dt.datetime) -> TickEnd | None:
        return self.server.tick(connection, self.interval.total_seconds(), due)

    def _is_over(self, done: int, ticks: int | None) -> bool:
        return self.stopped.is_set() or (ticks is not None and done >= ticks)

    @contextmanager
    def _connection(self, *, patient: bool) -> Iterator[Any]:
        """The loop's connection, which holds the run. patient: it did before, and the old session may linger."""
        deadline = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=OLD_SESSION_S if patient else 0)
        with closing(connect_raw(application_name="tickover loop")) as connection:
            while not _try_lock(connection, loop_lock(self.run)):
                # Where another serves the run by now, its old system waits for the home.
                self.server.leave_home()
                if dt.datetime.now(dt.UTC) >= deadline:
                    raise ConfigurationError(
                        f"another process serves run {self.run!r}; stop it, or name another --run"
                    )
                if self.stopped.wait(RECONNECT_S):
                    break
            yield connection


def _try_lock(connection: Any, key: int) -> bool:
    with connection, connection.cursor() as do:
        do.execute("SELECT pg_try_advisory_lock(%s)", (key,))
        return bool(do.fetchall()[0][0])


def loop_lock(run: str) -> int:
    """The number of the advisory lock that the loop of a run holds."""
    return seed_of("loop", run) % 2**63


def loop_is_there(run: str) -> bool:
    """Whether a loop serves the run, here or elsewhere. It takes no lock to find out."""
    key = loop_lock(run)
    with closing(connect_raw(application_name="tickover route")) as connection, connection.cursor() as do:
        do.execute(_HELD, (key >> 32, key & 0xFFFFFFFF))
        return bool(do.fetchall()[0][0])
