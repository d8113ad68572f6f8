"""A job in both systems, small enough to be switched a thousand times: each tick enters itself into a list.

`ledger` in the home is what really ran, line by line: it is beside the state, so that no system can mend it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tickover import Effect, Step, TickContext, Workflow

HOME = "ROUTE_JOB_HOME"


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


def read_state(home: Path) -> dict[str, Any]:
    """The list as the old system has it."""
    path = home / "list.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"entries": []}
    return found


def write_state(home: Path, state: dict[str, Any]) -> None:
    """Give the old system a list."""
    home.mkdir(parents=True, exist_ok=True)
    draft = home / "list.json.draft"
    draft.write_text(json.dumps(state))
    draft.replace(home / "list.json")


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
    initial_state=lambda: {"entries": []},
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
