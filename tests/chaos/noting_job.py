"""A job for whatever breaks runs: it notes in a notebook what really happens, beside what PostgreSQL says.

Seven steps in the shape of the being's, each with two effects and a few milliseconds of work; both systems have it.
The notebook is the file that NOTEBOOK names in the environment; WORK there is how long a step works, in seconds.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from shadow.ledger import Notebook
from tickover import Effect, RetryPolicy, Step, TickContext, Workflow

NOTEBOOK, HOME, RUN, WORK = "NOTING_JOB_NOTEBOOK", "NOTING_JOB_HOME", "NOTING_JOB_RUN", "NOTING_JOB_WORK"
# Effects of each step of the new system.
EFFECTS = 2
# How long a step works where nothing else is said, in seconds: time for something to go wrong in it.
WORK_S = 0.03
_PATIENT = RetryPolicy(attempts=50, backoff_s=0.05, max_backoff_s=0.5)


def notebook() -> Notebook:
    """The notebook of this process's surroundings."""
    return Notebook(Path(os.environ[NOTEBOOK]))


def run_tick(tick: int) -> int:
    """The old system: a list in a file of its own."""
    home, run = Path(os.environ[HOME]), os.environ[RUN]
    state = json.loads((home / "list.json").read_text())
    notebook().legacy_began(run, tick, state)
    state["entries"].append([tick, "legacy"])
    write_state(home, state)
    notebook().legacy_ended(run, tick)
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


def _work(context: TickContext) -> dict[str, Any]:
    context.emit("entry" if context.step == "monologue" else "message", [context.tick, context.step])
    time.sleep(float(os.environ.get(WORK, WORK_S)) * context.time_scale)  # the work
    context.emit("message", {"tick": context.tick, "id": str(context.new_id())})
    return {"step": context.step, "number": context.random.random()}


def _reduce(state: dict[str, Any], effect: Effect) -> dict[str, Any]:
    if effect.kind == "entry":
        state["entries"].append([effect.payload[0], "async"])
    return state


def _deliver(effect: Effect, key: str, home: Path) -> None:
    notebook().delivered(effect, key)


def legacy_env(home: Path, time_scale: float, model_url: str | None) -> dict[str, str]:
    return {HOME: str(home), RUN: home.name}


job = Workflow(
    name="noting_job",
    version="1",
    initial_state=lambda: {"entries": []},
    reduce=_reduce,
    deliver=_deliver,
    legacy="tests.chaos.noting_job:run_tick",
    legacy_env=legacy_env,
    read_state=read_state,
    write_state=write_state,
    steps=[
        Step(name="monologue", run=_work, timeout_s=30, retry=_PATIENT),
        Step(name="goal_selection", run=_work, needs=("monologue",), timeout_s=30, retry=_PATIENT),
        Step(name="action", run=_work, needs=("goal_selection",), timeout_s=30, retry=_PATIENT),
        *(
            Step(name=name, run=_work, needs=("action",), timeout_s=30, queue="optional", retry=_PATIENT)
            for name in ("curiosity", "beliefs", "social", "meta")
        ),
    ],
)
STEP_EFFECTS = dict.fromkeys(job.order, EFFECTS)
