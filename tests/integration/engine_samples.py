"""Workflows for the engine's tests; loaded by workers as `tests.integration.engine_samples:NAME`."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from tickover import RetryPolicy, Step, TickContext, Workflow

_AFTER = ("monologue", "goal_selection", "action")
_QUICK = RetryPolicy(attempts=3, backoff_s=0.01, max_backoff_s=0.05)


def _note(context: TickContext, text: str) -> None:
    """Append a line to the ledger named by the input: what really ran, beside what PostgreSQL says."""
    if context.input and context.input.get("ledger"):
        with Path(context.input["ledger"]).open("a") as ledger:
            ledger.write(f"{context.step} {context.attempt} {text}\n")


def _work(context: TickContext) -> dict[str, Any]:
    _note(context, "begin")
    context.emit("done", {"step": context.step, "id": str(context.new_id())})
    return {"step": context.step, "number": context.random.random(), "text": "x" * 900}


def _reduce(state: dict[str, Any], effect: Any) -> dict[str, Any]:
    state.setdefault("done", []).append(effect.payload["step"])
    return state


def _seven(name: str, run: Any = _work, *, last_queue: str = "optional", **first: Any) -> Workflow:
    return Workflow(
        name=name, version="1", reduce=_reduce,
        steps=[
            Step(name="monologue", run=run, timeout_s=30, **first),
            Step(name="goal_selection", run=run, needs=("monologue",), timeout_s=90),
            Step(name="action", run=run, needs=("goal_selection",), timeout_s=45),
            *(Step(name=step, run=run, needs=("action",), timeout_s=30, queue=last_queue, critical=False)
              for step in ("curiosity", "beliefs", "social", "meta")),
        ],
    )  # fmt: skip


seven = _seven("seven")
one_queue = _seven("one_queue", last_queue="critical")


def _fail_twice(context: TickContext) -> Any:
    if context.step == "monologue" and context.attempt < 3:
        _note(context, "fail")
        raise ConnectionError("the model is away")
    return _work(context)


retrying = _seven("retrying", _fail_twice, retry=_QUICK)


def _always_fails(context: TickContext) -> Any:
    context.emit("done", {"step": "of an attempt that failed"})
    raise ConnectionError("the model is away for good")


def _default(context: TickContext) -> Any:
    return {"default": True, "failure": context.failure}


def _read_needs(context: TickContext) -> Any:
    return {need: value if value else repr(value) for need, value in context.results.items()}


troubled = Workflow(
    name="troubled", version="1", reduce=_reduce,
    steps=[
        Step(name="falls_back", run=_always_fails, fallback=_default, retry=_QUICK),
        Step(name="optional", run=_always_fails, critical=False, retry=_QUICK),
        Step(name="unneeded", run=_work, when=lambda context: False),
        Step(name="slow", run=lambda context: time.sleep(30), timeout_s=0.2, critical=False,
             retry=RetryPolicy(attempts=1)),
        Step(name="not_json", run=lambda context: {1, 2}, critical=False, retry=_QUICK),
        Step(name="hidden", run=lambda context: context.results["optional"], critical=False, retry=_QUICK),
        Step(name="gathers", run=_read_needs, needs=("falls_back", "optional", "unneeded")),
    ],
)  # fmt: skip

fatal = Workflow(
    name="fatal", version="1",
    steps=[
        Step(name="first", run=_always_fails, retry=RetryPolicy(attempts=1)),
        Step(name="second", run=_work, needs=("first",)),
    ],
)  # fmt: skip


def _hang_once(context: TickContext) -> Any:
    """The first worker that gets here tells its process group and waits to be killed."""
    if context.step == "goal_selection":
        mark = Path(context.input["mark"])
        if not mark.exists():
            draft = mark.with_suffix(".draft")
            draft.write_text(str(os.getpid()))
            draft.rename(mark)
            time.sleep(60)
    return _work(context)


hanging = _seven("hanging", _hang_once)


def _stubborn(context: TickContext) -> Any:
    """Ignores its soft limit: it ends only with the process, or when it is done after all."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            time.sleep(1)
        except BaseException:  # noqa: BLE001 - the stubbornness
            _note(context, "goes on")


stubborn = Workflow(
    name="stubborn", version="1",
    steps=[
        Step(name="hangs", run=_stubborn, timeout_s=0.2, critical=False, retry=RetryPolicy(attempts=1)),
        Step(name="after", run=_read_needs, needs=("hangs",)),
    ],
)  # fmt: skip


def _wait_for_leave(context: TickContext) -> Any:
    """Tells that it is under way, and goes on when a file says so."""
    folder = Path(context.input["folder"])
    (folder / f"{context.tick}-begun").touch()
    while not (folder / "leave").exists():
        time.sleep(0.01)
    _note(context, "begin")
    context.emit("done", {"step": context.step})
    return {"attempt": context.attempt}


waiting = Workflow(
    name="waiting", version="1", reduce=_reduce,
    steps=[Step(name="waits", run=_wait_for_leave, timeout_s=60), Step(name="ends", run=_work, needs=("waits",))],
)  # fmt: skip
