"""A job for whatever breaks runs: it notes in a notebook what really happens, beside what PostgreSQL says.

Seven steps in the shape of the being's, each with two effects; both systems have it. Most steps work for some
milliseconds, a few for so long that leases run out in chaos; some fail at first, and one does not apply to each tick.
The notebook is the file that NOTEBOOK names in the environment; with WORK there, all steps work for so many seconds.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from shadow.ledger import Notebook
from tests.old_store import LIST
from tickover import Effect, RetryPolicy, Step, TickContext, Workflow

NOTEBOOK, HOME, RUN, WORK = "NOTING_JOB_NOTEBOOK", "NOTING_JOB_HOME", "NOTING_JOB_RUN", "NOTING_JOB_WORK"
read_state, write_state = LIST.read, LIST.write
# Effects of each step of the new system.
EFFECTS = 2
# How long a step works where nothing else is said, in seconds, and how often: time for something to go wrong in it.
WORK_S = ((0.03, 0.9), (0.6, 0.08), (3.0, 0.02))
# The share of steps whose first attempt fails, half way through its effects.
FAILING = 0.05
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


def _work(context: TickContext) -> dict[str, Any]:
    context.emit("entry" if context.step == "monologue" else "message", [context.tick, context.step])
    time.sleep(_work_s(context) * context.time_scale)  # the work
    if context.attempt == 1 and context.random.random() < FAILING:
        raise ConnectionError("the model is away")
    context.emit("message", {"tick": context.tick, "id": str(context.new_id())})
    return {"step": context.step, "number": context.random.random()}


def _work_s(context: TickContext) -> float:
    if WORK in os.environ:
        return float(os.environ[WORK])
    return context.random.choices([length for length, _ in WORK_S], [share for _, share in WORK_S])[0]


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
    initial_state=LIST.begin,
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
        Step(
            name="curiosity",
            run=_work,
            needs=("action",),
            timeout_s=30,
            queue="optional",
            retry=_PATIENT,
            when=lambda context: context.tick % 3 == 0,
        ),
        *(
            Step(name=name, run=_work, needs=("action",), timeout_s=30, queue="optional", retry=_PATIENT)
            for name in ("beliefs", "social", "meta")
        ),
    ],
)
STEP_EFFECTS = dict.fromkeys(job.order, EFFECTS)
