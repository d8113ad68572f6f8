"""Liveness: a worker process shows that it lives by a session lock, and renews the leases of what it executes."""

from __future__ import annotations

import logging
import os
import random
import select
import threading
import time
from collections.abc import Callable
from typing import Any

from async_tick import sql
from async_tick.connection import LOST, Connection, telling_loss
from tickover.errors import InfrastructureError

log = logging.getLogger(__name__)

# How often the heartbeat's thread looks around, in seconds.
TURN_S = 0.2


class Liveness:
    """The owner number of this process, its lock, and the tokens it holds. One per process; a thread keeps it
    alive."""

    def __init__(self, lease_s: float, heartbeat_s: float) -> None:
        self.owner = random.SystemRandom().randrange(1, 2**31)
        self.pid = os.getpid()
        self._lease_s, self._heartbeat_s = lease_s, heartbeat_s
        self._connection = Connection("tickover liveness")
        self._held: dict[str, tuple[float, Callable[[], None]]] = {}
        self._lock = threading.Lock()
        self._locked = threading.Event()
        self._over = threading.Event()

    def start(self, timeout_s: float = 20.0) -> None:
        """Take the lock and keep it. Raises InfrastructureError if that takes longer than `timeout_s`."""
        threading.Thread(target=self._run, name="tickover-liveness", daemon=True).start()
        if not self._locked.wait(timeout_s):
            raise InfrastructureError("the worker could not take its session lock in PostgreSQL; check DATABASE_URL")

    def hold(self, token: str, hard_limit_s: float, on_hard_limit: Callable[[], None]) -> None:
        """Renew the lease of this token from now on; after `hard_limit_s` call `on_hard_limit` (from another
        thread)."""
        with self._lock:
            self._held[token] = (time.monotonic() + hard_limit_s, on_hard_limit)

    def drop(self, token: str) -> None:
        """Stop renewing this token."""
        with self._lock:
            self._held.pop(token, None)

    def stop(self) -> None:
        """Renew nothing more, and give up the lock: from then on this process counts as dead."""
        self._over.set()

    def _run(self) -> None:
        session: Any = None
        is_locked = False
        renewed = 0.0
        while not self._over.is_set():
            try:
                if session is None or session.closed:
                    session, is_locked = self._connection.get(), False
                if not is_locked:
                    # An old session of this process may still hold it, of which PostgreSQL does not know yet that it
                    # is gone: it is tried again, or this process would look dead as soon as that one has ended.
                    is_locked = bool(self._connection.rows(sql.LOCK_OWNER, (self.owner,))[0][0])
                if is_locked:
                    self._locked.set()
                if time.monotonic() - renewed >= self._heartbeat_s:
                    renewed = time.monotonic()
                    self._renew()
                # A session that is ended shows at once, not at the next heartbeat: sweeps give it half a second.
                if select.select([session], [], [], TURN_S)[0]:
                    with telling_loss():
                        session.poll()
            except (*LOST, InfrastructureError) as error:
                self._connection.drop()
                session = None
                log.warning("liveness.lost", extra={"reason": str(error)})
                self._over.wait(TURN_S)  # a pause between attempts to reach a server that is away
            self._check_hard_limits()
        self._connection.drop()

    def _renew(self) -> None:
        with self._lock:
            tokens = list(self._held)
        # Without tokens the statement still shows whether the connection, and with it the lock, is alive.
        self._connection.rows(sql.RENEW, (tokens, self._lease_s))

    def _check_hard_limits(self) -> None:
        now = time.monotonic()
        with self._lock:
            over = [token for token, (deadline, _) in self._held.items() if now > deadline]
            expired = [self._held.pop(token)[1] for token in over]
        for act in expired:
            try:
                act()
            except (*LOST, InfrastructureError) as error:
                # The token is no longer renewed: a sweep takes the step.
                log.warning("limit.unwritten", extra={"reason": str(error)})
