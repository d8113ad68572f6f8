"""The sweeper: each worker takes steps from the dead and sends hints again. There is no leader."""

from __future__ import annotations

import logging
import os
import threading
import time

from celery import Celery

from async_tick import sql
from async_tick.connection import LOST, Connection
from async_tick.tasks import send_hint
from tickover.errors import InfrastructureError
from tickover.ground.settings import Settings

log = logging.getLogger(__name__)

# Hints sent in one sweep at most.
BATCH = 100
# How long a fork waits for a hint that is being sent, in seconds.
FORK_WAIT_S = 5.0
# How often a step may be taken from a dead worker before it counts as what kills them.
MAX_RECOVERIES = 5


class Sweeper:
    """A thread that sweeps; one per worker's main process."""

    def __init__(self, app: Celery, settings: Settings) -> None:
        self._app, self._pause_s = app, settings.sweep_s
        self._connection = Connection("tickover sweeper")
        # Owner -> when its lock was first seen missing. Dead is who is missing in two sweeps, so that a worker
        # whose connection was cut has time to take its lock anew.
        self._missing: dict[int, float] = {}
        self._was_here = False

    def start(self) -> None:
        """Sweep from now on, until the process ends."""
        threading.Thread(target=self._run, name="tickover-sweeper", daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                self.sweep()
            except (*LOST, InfrastructureError) as error:
                log.warning("sweep.failed", extra={"reason": str(error)})
            time.sleep(self._pause_s)  # the pace of the sweeps

    def sweep(self) -> int:
        """One sweep; returns how many hints were sent."""
        now = time.monotonic()
        missing = {row[0] for row in self._connection.rows(sql.MISSING_OWNERS)}
        self._missing = {owner: self._missing.get(owner, now) for owner in missing}
        dead = [owner for owner, since in self._missing.items() if now - since >= 0.9 * self._pause_s]
        if dead or not self._was_here:
            self._connection.rows(sql.HINT_AGAIN)
            self._was_here = True
        sent = 0
        for execution_id, workflow, step, queue, recovered in self._connection.rows(
            sql.SWEEP, (dead, BATCH, MAX_RECOVERIES)
        ):
            if recovered:
                log.info("step.recovered", extra={"execution": execution_id, "step": step})
            with _sending:
                sent += send_hint(self._app, f"{workflow}.{step}", execution_id, queue)
        return sent


class _Sending:
    """Held while a sweep sends a hint, and while the process forks: a child that is forked in the middle of it has a
    lock of the broker's client that nobody will ever release, and hangs before it has begun."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forks = False

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def before_fork(self) -> None:
        """Wait for a hint that is being sent; not for ever, for the broker may hang."""
        self._forks = self._lock.acquire(timeout=FORK_WAIT_S)

    def after_fork(self) -> None:
        """Go on sending."""
        if self._forks:
            self._lock.release()

    def forget(self) -> None:
        """In a child nothing is being sent."""
        self._lock = threading.Lock()


_sending = _Sending()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_sending.before_fork, after_in_parent=_sending.after_fork, after_in_child=_sending.forget
    )
