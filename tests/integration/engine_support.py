"""What the engine's tests share."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tickover.execution import ExecutionKey, Purpose, System

StartWorker = Callable[..., Any]


def key(tick: int = 0, run: str = "test") -> ExecutionKey:
    """The key of an execution of the new system."""
    return ExecutionKey(run=run, tick=tick, system=System.ASYNC, purpose=Purpose.CONTROL)


def until(condition: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    """What the condition gives once it holds; fails after the timeout."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)
    return found
