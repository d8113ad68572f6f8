"""Followers: the threads in which candidates run behind the control."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

# Candidates that run at the same time.
FOLLOWERS = 3


class Followers:
    """Calls `follow` for each tick that is put, in several threads; `failed` gets what it raises, and the caller says
    by `abandon` if there is no going on."""

    def __init__(self, follow: Callable[[int], None], failed: Callable[[int, Exception], None]) -> None:
        self._follow, self._failed = follow, failed
        self._queue: queue.Queue[int | None] = queue.Queue()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(FOLLOWERS)]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """How many ticks nobody has begun to follow."""
        return self._queue.qsize()

    def put(self, tick: int) -> None:
        """Have a tick followed."""
        self._queue.put(tick)

    def finish(self, timeout_s: float | None = None) -> bool:
        """Follow what was put, and end; whether that was done within the timeout (None: wait for ever)."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._queue.all_tasks_done:
            # What failed and is put again is no less to be waited for than what was never begun.
            while self._queue.unfinished_tasks and not self._over.is_set():
                if deadline is not None and time.monotonic() >= deadline:
                    return False
                self._queue.all_tasks_done.wait(0.2)
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def abandon(self) -> None:
        """Begin no other tick."""
        self._over.set()

    def _work(self) -> None:
        while (tick := self._queue.get()) is not None and not self._over.is_set():
            try:
                self._follow(tick)
            except Exception as error:  # noqa: BLE001 - the owner of the threads decides what it means
                self._failed(tick, error)
            finally:
                self._queue.task_done()
