"""What a copy of the old system replays of a new one that served."""

from __future__ import annotations

from typing import Any

from shadow.both import last_attempts
from tickover.tape import TapeEntry


def entry(step: str, attempt: int, answer: Any, recorded_by: str = "async") -> TapeEntry:
    return TapeEntry(
        run="r", tick=0, step=step, port="p", method="m", request={}, request_hash="h", occurrence=0, attempt=attempt,
        answer=answer, error=None, latency_ms=0.0, recorded_by=recorded_by,
    )  # fmt: skip


def test_of_each_step_the_last_attempt_is_replayed_as_the_first() -> None:
    """What the control's answer was made of: not what an attempt before it was told, nor what the copy itself had
    called when it was cut off."""
    tape = [
        entry("a", 1, "malformed"), entry("b", 1, "good"), entry("a", 2, "good"), entry("a", 3, "own", "legacy"),
        entry("c", 1, "own", "legacy"),
    ]  # fmt: skip
    assert [(one.step, one.attempt, one.answer) for one in last_attempts(tape)] == [
        ("b", 1, "good"),
        ("a", 1, "good"),
    ]
