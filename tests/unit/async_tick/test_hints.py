"""Hints are sent in order, and a broker that hangs keeps nobody."""

from __future__ import annotations

import threading

import pytest

from async_tick import hints


def test_a_hint_is_out_when_sending_returns() -> None:
    """One job after the other, each done before its caller goes on."""
    sender, done = hints.Sender(), []
    for number in range(20):
        sender.send(lambda number=number: done.append(number))  # type: ignore[misc]
        assert done == list(range(number + 1))


def test_a_broker_that_hangs_keeps_the_first_for_a_moment_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits behind it goes out, in order, when it answers again; then sending is waited for as before."""
    monkeypatch.setattr(hints, "PATIENCE_S", 0.05)
    sender, answers, done = hints.Sender(), threading.Event(), []
    sender.send(answers.wait)
    monkeypatch.setattr(hints, "PATIENCE_S", 3600.0)
    for number in range(3):
        sender.send(lambda number=number: done.append(number))  # type: ignore[misc]
    assert done == []
    over = threading.Event()
    sender.send(over.set)
    answers.set()
    assert over.wait(30) and done == [0, 1, 2]


def test_a_hint_that_fails_does_not_end_the_sending(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the next one goes out."""
    sender, done = hints.Sender(), []
    sender.send(lambda: [].pop())  # type: ignore[arg-type]
    sender.send(lambda: done.append(1))
    assert done == [1] and "hints.failed" in caplog.text
