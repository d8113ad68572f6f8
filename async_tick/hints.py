"""Hints of a process that starts executions: sent from a thread of its own, so that a broker that hangs keeps nobody.

Redis that is there and does not answer keeps its client waiting without limit: it must not keep the loop from seeing
that the route has moved.
"""

from __future__ import annotations

import functools
import logging
import os
import queue
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

# How long a hint is waited for, in seconds; one that takes longer goes out when the broker answers again, or is sent
# by a sweeper.
PATIENCE_S = 1.0

Job = Callable[[], None]


class Sender:
    """A thread that does one job after the other."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Job, threading.Event]] = queue.SimpleQueue()
        self._hangs = False
        threading.Thread(target=self._work, name="tickover-start-hints", daemon=True).start()

    def send(self, job: Job) -> None:
        """Have the job done; it is done when this returns, unless it takes too long, or one before it did."""
        done = threading.Event()
        self._jobs.put((job, done))
        if not self._hangs and not done.wait(PATIENCE_S):
            self._hangs = True

    def _work(self) -> None:
        while True:
            job, done = self._jobs.get()
            try:
                job()
            except Exception:  # the thread must outlive it; a sweeper sends the hint
                log.exception("hints.failed")
            done.set()
            if self._jobs.empty():
                self._hangs = False


@functools.cache
def _sender(pid: int) -> Sender:
    return Sender()


def send(job: Job) -> None:
    """Do a job in this process's thread for hints. See `Sender.send`."""
    _sender(os.getpid()).send(job)
