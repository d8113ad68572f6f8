"""The old system's home: whoever works in it holds it, so that no two processes ever do."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from tickover.errors import InfrastructureError


class HomeBusy(InfrastructureError):
    """Another process works in the home."""


def take_home(home: Path, timeout_s: float) -> int:
    """An open descriptor that holds the home, for as long as any process has it open. Raises HomeBusy.

    A process that is given the descriptor holds the home with it: also when it outlives its parent, paused.
    """
    home.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(home.with_name(f"{home.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise HomeBusy(
                    f"another process works in {home}, perhaps a paused one; `fuser {home}.lock` names it: end it"
                ) from None
            time.sleep(0.02)  # the pace of asking for a lock that has no queue
        else:
            return descriptor


@contextlib.contextmanager
def holding(home: Path, timeout_s: float) -> Iterator[None]:
    """Hold the home while the context lasts. Raises HomeBusy."""
    descriptor = take_home(home, timeout_s)
    try:
        yield
    finally:
        os.close(descriptor)
