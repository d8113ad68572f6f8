"""The storm's job with a stamp where a tick's work begins and where it ends, in whichever system."""

from __future__ import annotations

import dataclasses
import os
import time
from typing import Any

from tests.chaos import storm_job
from tickover import Step, TickContext

STAMPS = "TIMED_JOB_STAMPS"
WORKLOAD = "tests.benchmarks.timed_job:job"


def _stamp(tick: int, owner: str, what: str) -> None:
    handle = os.open(os.environ[STAMPS], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(handle, f"{time.time_ns()} {tick} {owner} {what}\n".encode())
    os.close(handle)


def run_tick(tick: int) -> int:
    """The old system."""
    _stamp(tick, "legacy", "begins")
    storm_job.run_tick(tick)
    _stamp(tick, "legacy", "ends")
    return tick


def _enter(context: TickContext) -> int:
    _stamp(context.tick, "async", "begins")
    context.emit("entry", context.tick)
    return context.tick


def _end(context: TickContext) -> Any:
    _stamp(context.tick, "async", "ends")


job = dataclasses.replace(
    storm_job.job,
    name="timed_job",
    legacy="tests.benchmarks.timed_job:run_tick",
    steps=[
        Step(name="enter", run=_enter, timeout_s=30),
        Step(name="end", run=_end, needs=("enter",), queue="optional", timeout_s=30),
    ],
)
