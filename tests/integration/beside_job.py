"""A job whose two systems do the same, draws included, unless a file says otherwise; small enough for many ticks.

A file `differ-N` in the plans makes the new system's tick N another one; `fail-N` makes it fail; `hang` makes the old
system hang in a copy.
"""

from __future__ import annotations

import os
import random
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.old_store import LIST
from tickover import Effect, Port, Step, TickContext, Workflow

HOME, PLANS = "BESIDE_JOB_HOME", "BESIDE_JOB_PLANS"
read_state, write_state = LIST.read, LIST.write


def planned(what: str) -> bool:
    """Whether a file of that name was put into the plans."""
    return (Path(os.environ.get(PLANS, "/nonexistent")) / what).exists()


def mark(tick: int) -> list[Any]:
    """The old system's only step."""
    deadline = time.monotonic() + 60
    while planned("hang") and "candidate" in os.environ[HOME] and time.monotonic() < deadline:
        time.sleep(0.05)  # as a system that hangs would
    return [tick, str(uuid.uuid4()), random.random()]


def run_tick(tick: int) -> int:
    """The old system: the list is a file of its own."""
    home = Path(os.environ[HOME])
    state = read_state(home)
    state["entries"].append(mark(tick))
    write_state(home, state)
    return tick


def _mark(context: TickContext) -> list[Any]:
    if planned(f"fail-{context.tick}"):
        raise ValueError("as planned")
    entry = [context.tick, str(context.new_id()), context.random.random()]
    if planned(f"differ-{context.tick}"):
        entry[1] = "another one"
    context.emit("entry", entry)
    return entry


def _reduce(state: dict[str, Any], effect: Effect) -> dict[str, Any]:
    state["entries"].append(effect.payload)
    return state


job = Workflow(
    name="beside_job",
    version="1",
    initial_state=LIST.begin,
    reduce=_reduce,
    state_kinds=("entry",),
    legacy="tests.integration.beside_job:run_tick",
    legacy_env=lambda home, time_scale, model_url: {HOME: str(home)},
    legacy_steps={"mark": "tests.integration.beside_job:mark"},
    legacy_effects=lambda write: None,
    read_state=read_state,
    write_state=write_state,
    steps=[Step(name="mark", run=_mark, timeout_s=30)],
)


class _Echo:
    """A client that answers at once, so that what a call costs is what is done around it."""

    def ask(self, text: str) -> str:
        return text


def _ask(context: TickContext) -> int:
    for number in range(3):
        context.port("echo").ask(text=f"{context.step} {number} " + "x" * 2000)
    return context.tick


calling = replace(
    job,
    name="calling_job",
    ports=[Port(name="echo", connect=_Echo, methods=("ask",))],
    steps=[
        Step(name="mark", run=_mark, timeout_s=30),
        Step(name="first", run=_ask, needs=("mark",), timeout_s=30),
        Step(name="second", run=_ask, needs=("first",), timeout_s=30),
        Step(name="third", run=_ask, needs=("second",), timeout_s=30),
    ],
)
