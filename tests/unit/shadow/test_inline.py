"""The port in this process: calls that are on no tape."""

from __future__ import annotations

from typing import Any

import pytest

from shadow.inline import InlineTick, run_inline
from shadow.observation import Observation, Outcome
from tickover import Port, PortCall, Step, TickContext, Workflow
from tickover.execution import ExecutionKey, Purpose, System
from tickover.tape import TapeEntry

KEY = ExecutionKey(run="r", tick=1, system=System.ASYNC, purpose=Purpose.BACKTEST)


class Nobody:
    """A client that must not be asked."""

    def ask(self, text: str) -> Any:
        raise AssertionError(f"{text!r} was asked live")


def step(context: TickContext) -> Any:
    return context.port("model").ask(text="why")


JOB = Workflow(
    name="job", version="1", steps=[Step(name="think", run=step)],
    ports=[Port(name="model", connect=Nobody, methods=("ask",))],
)  # fmt: skip


def entry(answer: Any, **changes: Any) -> TapeEntry:
    """A call of `think`, missed in an earlier run."""
    request = {"text": "why"}
    values = {
        "run": "r", "tick": 1, "step": "think", "port": "model", "method": "ask", "request": request,
        "request_hash": PortCall(port="model", method="ask", request=request).hash(), "occurrence": 0, "attempt": 1,
        "answer": answer, "error": None, "latency_ms": 1.0, "recorded_by": "async", "missed": True,
    }  # fmt: skip
    return TapeEntry(**{**values, **changes})


def run(tick: InlineTick) -> Observation:
    """What the job does."""
    return run_inline(JOB, KEY, state={}, tick=tick)


def test_a_known_miss_is_answered_again_and_is_a_miss_again() -> None:
    """Nobody is asked, the answer is the earlier one, and the call counts as one that was on no tape."""
    tick = InlineTick(known=[entry("because")], on_miss="fail")
    assert run(tick).steps["think"].result == "because"
    assert [(miss.missed, miss.answer, miss.request) for miss in tick.misses] == [(True, "because", {"text": "why"})]


def test_what_is_on_the_tape_is_no_miss() -> None:
    """The tape comes before what is known of misses."""
    tick = InlineTick(tape=[entry("taped", missed=False, recorded_by="legacy")], known=[entry("known")])
    assert run(tick).steps["think"].result == "taped" and not tick.misses


@pytest.mark.parametrize("known", [[], [entry("because", step="act")]])
def test_a_miss_that_nobody_knows_fails_the_step(known: list[TapeEntry]) -> None:
    """With `fail` nobody is asked, in whichever attempt: the step says that a call is on no tape."""
    tick = InlineTick(known=known, on_miss="fail")
    seen = run(tick)
    assert seen.outcome is Outcome.FAILED and "TapeMiss" in (seen.error or "")
    assert [(miss.attempt, miss.answer) for miss in tick.misses] == [(1, None), (2, None), (3, None)]
