"""A job in both systems, small enough to be switched a thousand times: each tick enters itself into a list.

`ledger` in the home is what really ran, line by line: it is beside the state, so that no system can mend it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tests.old_store import LIST
from tickover import Effect, Step, TickContext, Workflow

HOME = "ROUTE_JOB_HOME"
read_state, write_state = LIST.read, LIST.write


def _append(home: Path, line: str) -> None:
    with (home / "ledger").open("a") as ledger:
        ledger.write(line + "\n")


def run_tick(tick: int) -> int:
    """The old system: the list is a file of its own."""
    home = Path(os.environ[HOME])
    _append(home, f"legacy {tick} begin")
    state = json.loads((home / "list.json").read_text())
    state["entries"].append([tick, "legacy"])
    write_state(home, state)
    _append(home, f"legacy {tick} end")
    return tick


def _enter(context: TickContext) -> int:
    context.emit("entry", context.tick)
    return context.tick


def _reduce(state: dict[str, Any], effect: Effect) -> dict[str, Any]:
    state["entries"].append([effect.payload, "async"])
    return state


def _deliver(effect: Effect, key: str, home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    _append(home, f"delivered {effect.payload} {key}")


job = Workflow(
    name="route_job",
    version="1",
    initial_state=LIST.begin,
    reduce=_reduce,
    deliver=_deliver,
    legacy="tests.integration.route_job:run_tick",
    legacy_env=lambda home, time_scale, model_url: {HOME: str(home)},
    read_state=read_state,
    write_state=write_state,
    steps=[
        Step(name="enter", run=_enter, timeout_s=30),
        Step(name="end", run=lambda context: None, needs=("enter",)),
    ],
)
