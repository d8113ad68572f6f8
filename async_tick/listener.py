"""The listener: one connection per process that wakes whoever waits for an execution's end."""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections import defaultdict
from collections.abc import Iterator

from async_tick.connection import LOST, Connection, Pool, telling_loss
from tickover.errors import InfrastructureError, TickoverError

_ENDED = "SELECT execution_id FROM workflows WHERE execution_id = ANY (%s) AND status <> 'running'"
# How long the thread listens before it looks around; also the longest a waiter that came meanwhile goes unseen.
_TURN_S = 0.5


class Listener:
    """Waits for ends of executions by NOTIFY. After each connect it listens first and reads the table then, until it
    could: an end of which nobody was notified would be waited for in vain."""

    def __init__(self) -> None:
        self._connection = Connection("tickover listener")
        self._reader = Pool("tickover waiter")
        self._waiters: dict[str, list[threading.Event]] = defaultdict(list)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._look = threading.Event()
        self._unread = threading.Event()
        self._over = threading.Event()

    @contextlib.contextmanager
    def expect(self, execution_id: str) -> Iterator[threading.Event]:
        """An event that is set when the execution ends; an end that came before is not seen by it."""
        event = threading.Event()
        with self._lock:
            self._waiters[execution_id].append(event)
            self._ensure_thread()
        try:
            yield event
        finally:
            with self._lock:
                self._waiters[execution_id].remove(event)
                if not self._waiters[execution_id]:
                    del self._waiters[execution_id]

    def wait(self, execution_id: str, timeout_s: float | None) -> bool:
        """Whether the execution ended within the timeout (None: wait for ever). One that has ended is seen at
        once."""
        with self.expect(execution_id) as event:
            try:
                if self._ended([execution_id]):
                    return True
            except (*LOST, InfrastructureError):
                self._unread.set()
            return event.wait(timeout_s)

    def start(self, timeout_s: float = 10.0) -> None:
        """Be listening when this returns, so that no end from now on is missed."""
        with self._lock:
            self._ensure_thread()
        self._look.wait(timeout_s)

    def stop(self) -> None:
        """Listen no more."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        self._reader.close()

    def _ensure_thread(self) -> None:
        if self._thread is None or self._pid != os.getpid() or not self._thread.is_alive():
            self._pid = os.getpid()
            self._thread = threading.Thread(target=self._run, name="tickover-listener", daemon=True)
            self._thread.start()

    def _ended(self, names: list[str]) -> list[str]:
        return [row[0] for row in self._reader.rows(_ENDED, (names,))]

    def _run(self) -> None:
        session = None
        while not self._over.is_set():
            try:
                if session is None or session.closed:
                    session = self._connection.get()
                    self._connection.rows("LISTEN tickover")
                    self._look.set()
                    self._unread.set()
                if self._unread.is_set():
                    self._wake_ended()
                if select.select([session], [], [], _TURN_S)[0]:
                    with telling_loss():
                        session.poll()
                    for notice in session.notifies:
                        self._wake(notice.payload)
                    session.notifies.clear()
            except (*LOST, TickoverError, OSError, ValueError):
                self._connection.drop()
                session = None
                self._over.wait(0.2)  # a pause between attempts to reach a server that is away
        self._connection.drop()

    def _wake_ended(self) -> None:
        """Raises what `LOST` names, and InfrastructureError; then the table is still to be read."""
        self._unread.clear()
        with self._lock:
            names = list(self._waiters)
        for name in self._ended(names) if names else []:
            self._wake(name)

    def _wake(self, execution_id: str) -> None:
        with self._lock:
            for event in self._waiters.get(execution_id, ()):
                event.set()


_listener = Listener()


def listener() -> Listener:
    """This process's listener."""
    return _listener
