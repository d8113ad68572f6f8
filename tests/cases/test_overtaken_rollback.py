"""A rollback that was paused while its session ended, and woke up when others had long gone on."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from async_tick import rollback, route
from async_tick.adoption import BOUNDARY_LOCK, adopt_state, latest_state, take_charge
from tests.integration.engine_support import until
from tests.integration.route_job import job, read_state, write_state
from tickover.boundary.home import holding
from tickover.execution import System
from tickover.ground.raw import connect_raw


def _adopt(run: str, tick: int) -> list[Any]:
    """Have whoever is in charge run a tick, and return the entries after it."""
    charge = take_charge(run, tick, f"{run}/{tick}/async/control/1", str(uuid.uuid4()))
    state: Any = latest_state(run, job)[1]
    entries = [*state["entries"], [tick, charge.owner.value]]
    adopt_state(charge, "done", {"entries": entries})
    return entries


def _end_sessions(application_name: str) -> None:
    with closing(connect_raw()) as connection, connection.cursor() as do:
        do.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s "
            "AND datname = current_database()",
            (application_name,),
        )


def test_an_overtaken_rollback_does_not_write_an_older_state(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has moved the route and read the state; its session ends, a loop brings the store up to date, the old system
    runs on from it and the loop dies. What the old system wrote stays."""
    home = tmp_path / "home"
    there = route.move(route.read_route(), System.ASYNC, author="x", reason="y")
    _adopt("run", 0)

    @contextlib.contextmanager
    def overtaken(home: Path, timeout_s: float) -> Iterator[None]:
        monkeypatch.setattr(rollback, "holding", holding)
        _end_sessions("tickover rollback")
        write_state(home, {"entries": _adopt("run", 1)})
        with holding(home, timeout_s):
            yield

    monkeypatch.setattr(rollback, "holding", overtaken)
    done = rollback.roll_back(there, job, "run", home, author="x", reason="z")
    assert done.route.owner is System.LEGACY
    assert read_state(home)["entries"] == [[0, "async"], [1, "legacy"]]


def test_a_rollback_that_is_stopped_does_not_stop_the_ticks_for_long(database: str, tmp_path: Path) -> None:
    """Ctrl-Z while it waits for a tick: its hold on the boundary between ticks ends after some seconds."""
    there = route.move(route.read_route(), System.ASYNC, author="x", reason="y")
    take_charge("run", 0, "run/0/async/control/1", str(uuid.uuid4()))
    stopped = threading.Event()

    def served(*_: object) -> bool:
        stopped.set()
        until(lambda: free(), 30.0)
        return False

    def free() -> bool:
        with closing(connect_raw()) as connection, connection, connection.cursor() as do:
            do.execute("SELECT pg_try_advisory_lock_shared(%s)", (BOUNDARY_LOCK,))
            return bool(do.fetchall()[0][0])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollback, "_is_served", served)
        patch.setattr(rollback, "STALLED_S", 1.0)
        done = rollback.roll_back(there, job, "run", tmp_path / "home", author="x", reason="z")
    assert stopped.is_set() and done.route.owner is System.LEGACY
