"""Calls that stand on no tape: explained by the other side's trouble, or shown beside the nearest call."""

from __future__ import annotations

from dataclasses import replace

from shadow.diff import Nature
from shadow.misses import find_misses
from shadow.observation import Outcome, StepObservation, StepStatus
from tests.unit.shadow.made import GRAPH, observe
from tickover.execution import System
from tickover.ports import PortCall
from tickover.tape import TapeEntry

RESULTS = {"think": 1, "act": 2, "learn": 3, "rest": 4}


def call(
    step: str, request: dict[str, str], *, missed: bool = False, attempt: int = 1, error: bool = False
) -> TapeEntry:
    return TapeEntry(
        run="r", tick=7, step=step, port="model", method="chat", request=request,
        request_hash=PortCall(port="model", method="chat", request=request).hash(), occurrence=0, attempt=attempt,
        answer=None, error={"kind": "http", "message": "no", "status": 500} if error else None, latency_ms=1.0,
        recorded_by="async" if missed else "legacy", missed=missed,
    )  # fmt: skip


CANDIDATE = observe(RESULTS, system=System.ASYNC)


def test_a_call_that_nothing_explains_stands_beside_the_nearest() -> None:
    """The nearest of the control's calls in the same step is shown, and the place where they part."""
    tape = [
        call("act", {"prompt": "write a letter to Ada"}),
        call("act", {"prompt": "sum up the day"}),
        call("act", {"prompt": "write a letter to Bob"}, missed=True),
    ]
    (miss,) = find_misses(tape, observe(RESULTS), CANDIDATE, GRAPH)
    assert (miss.why, miss.nearest) == (None, {"prompt": "write a letter to Ada"})
    assert [change.path for change in miss.change()] == [("model.chat", "prompt")]


def test_giving_up_explains_misses_in_that_step_and_after() -> None:
    """Where the control stopped waiting, what the candidate asked from there on is explained."""
    control = observe(RESULTS, steps={"act": StepObservation(status=StepStatus.GAVE_UP)})
    tape = [call("act", {"p": "a"}, missed=True), call("learn", {"p": "b"}, missed=True)]
    found = find_misses([*tape, call("think", {"p": "c"}, missed=True)], control, CANDIDATE, GRAPH)
    assert [miss.why for miss in found] == ["legacy gave up in act", "legacy gave up in act", None]


def test_retries_errors_and_a_lost_control_explain_misses() -> None:
    """A retry of the candidate, an error on the control's tape, and a control that ended early each explain one."""
    tape = [call("act", {"p": "a"}, missed=True, attempt=2)]
    assert find_misses(tape, observe(RESULTS), CANDIDATE, GRAPH)[0].why == "attempt 2 of the one that followed"
    tape = [call("act", {"p": "x"}, error=True), call("act", {"p": "a"}, missed=True)]
    assert find_misses(tape, observe(RESULTS), CANDIDATE, GRAPH)[0].why == "a call of legacy failed in act"
    tape = [call("act", {"p": "a"}, missed=True)]
    lost = observe({}, outcome=Outcome.LOST)
    assert find_misses(tape, lost, CANDIDATE, GRAPH)[0].why == "legacy lost"


def test_a_control_that_followed_and_gave_up_is_not_held_against_the_candidate() -> None:
    """Where the control ran second, its own trouble explains what it alone asked."""
    control = observe(RESULTS, steps={"act": StepObservation(status=StepStatus.GAVE_UP)})
    asked = replace(call("act", {"p": "a"}, missed=True), recorded_by="legacy")
    found = find_misses([asked], CANDIDATE, control, GRAPH)
    assert [(miss.why, miss.by_control) for miss in found] == [("legacy gave up in act", True)]


def test_what_only_a_control_asked_is_missing_in_the_candidate() -> None:
    """Where the control ran second without trouble, a call of its own is shown as one that the candidate lacks."""
    asked = replace(call("act", {"p": "a"}, missed=True), recorded_by="legacy")
    (miss,) = find_misses([asked], CANDIDATE, observe(RESULTS), GRAPH)
    (change,) = miss.change()
    assert (change.nature, change.control, change.candidate) == (Nature.MISSING, {"p": "a"}, None)
