"""Processes that are stopped (Ctrl-Z) with the route in their hands: nobody waits for them for long."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from async_tick import rollback, route
from tests.chaos.stepping import stepping
from tests.integration.engine_support import until
from tests.integration.route_job import job
from tickover.execution import System


@pytest.fixture(autouse=True)
def soon(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database of the test's own, where who does nothing is ended after a second."""
    monkeypatch.setattr(route, "STALLED_S", 1.0)


class Stopped(threading.Thread):
    """Does something to the route, and stops at a boundary of it until it is told to go on."""

    def __init__(self, act: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.act, self.stands, self.goes = act, threading.Event(), threading.Event()
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self.act()
        except Exception as error:  # noqa: BLE001 - looked at by the test
            self.error = error

    def at(self, boundary: str) -> Callable[[str], None]:
        """A hook for it."""

        def hook(passed: str) -> None:
            if threading.current_thread() is self and passed.startswith(boundary):
                self.stands.set()
                assert self.goes.wait(60)

        return hook


@pytest.mark.parametrize("boundary", ["after SELECT pg_advisory_xact_lock", "after UPDATE route", "before COMMIT"])
def test_a_stopped_switchover_lets_go_of_the_route(boundary: str) -> None:
    """Its session ends; another move goes through; it says so when it wakes up, and has changed nothing."""
    seen = route.read_route()
    sleeper = Stopped(lambda: route.move(seen, System.ASYNC, author="sleeper", reason="r"))
    with stepping(sleeper.at(boundary)):
        sleeper.start()
        assert sleeper.stands.wait(30)
        now = route.move(seen, System.ASYNC, author="other", reason="r", timeout_s=30)
        sleeper.goes.set()
        sleeper.join(30)
    assert isinstance(sleeper.error, route.SessionLost), repr(sleeper.error)
    assert "tickover route" in str(sleeper.error)
    assert [each.author for each in route.history()[1:]] == ["other"] and route.read_route() == now


def test_a_stopped_hold_does_not_keep_a_rollback_away(tmp_path: Any) -> None:
    """The route's row is locked by a process that was stopped: the rollback waits for seconds, not for ever."""
    there = route.move(route.read_route(), System.ASYNC, author="x", reason="y")
    sleeper = Stopped(lambda: route.hold("sleeper", "r"))
    with stepping(sleeper.at("after UPDATE route SET holds")):
        sleeper.start()
        assert sleeper.stands.wait(30)
        done = rollback.roll_back(there, job, "run", tmp_path / "home", author="x", reason="z")
        sleeper.goes.set()
        sleeper.join(30)
    assert done.route.owner is System.LEGACY and isinstance(sleeper.error, route.SessionLost)
    assert until(lambda: route.read_route().holds == 0)
