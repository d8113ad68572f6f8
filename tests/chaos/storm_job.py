"""A job in both systems whose state is a chain over all ticks, and which notes what it does in a notebook.

The notebook is beside the state, a line for each thing that really happened: no system can mend it.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

from shadow.ledger import Notebook
from tests.old_store import OldStore
from tickover import Effect, Step, TickContext, Workflow

HOME, NOTEBOOK = "STORM_HOME", "STORM_NOTEBOOK"
RUN = "storm"
WORKLOAD = "tests.chaos.storm_job:job"
# How long the old system's tick works, and a step of the new one, in seconds: time to be killed in.
WORK_S = 0.004

START = {"count": 0, "chain": "", "last": -1}
_STORE = OldStore("store.json", START)
read_state, write_state = _STORE.read, _STORE.write


def notebook() -> Notebook:
    """The notebook of this process's surroundings."""
    return Notebook(Path(os.environ[NOTEBOOK]))


def after(state: dict[str, Any], tick: int, owner: str) -> dict[str, Any]:
    """The state after a tick of a system: nothing that came before can be left out of it."""
    chain = hashlib.sha256(f"{state['chain']} {tick} {owner}".encode()).hexdigest()
    return {"count": state["count"] + 1, "chain": chain, "last": tick}


def run_tick(tick: int) -> int:
    """The old system."""
    home = Path(os.environ[HOME])
    state = read_state(home)
    notebook().legacy_began(RUN, tick, state)
    time.sleep(WORK_S)  # its work
    write_state(home, after(state, tick, "legacy"))
    notebook().legacy_ended(RUN, tick)
    return tick


def _enter(context: TickContext) -> int:
    time.sleep(WORK_S)  # its work
    context.emit("entry", context.tick)
    return context.tick


def _reduce(state: dict[str, Any], effect: Effect) -> dict[str, Any]:
    return after(state, effect.payload, "async")


def _deliver(effect: Effect, key: str, home: Path) -> None:
    notebook().delivered(effect, key)


job = Workflow(
    name="storm_job",
    version="1",
    initial_state=_STORE.begin,
    reduce=_reduce,
    deliver=_deliver,
    legacy="tests.chaos.storm_job:run_tick",
    legacy_env=lambda home, time_scale, model_url: {HOME: str(home)},
    read_state=read_state,
    write_state=write_state,
    steps=[
        Step(name="enter", run=_enter, timeout_s=30),
        Step(name="end", run=lambda context: None, needs=("enter",), queue="optional", timeout_s=30),
    ],
)
