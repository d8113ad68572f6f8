"""Rollback on a real server, without workers, broker or loop: what is cut off anywhere is ended by the next one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from async_tick import rollback, route
from async_tick.adoption import BOUNDARY_LOCK, ROUTE_LOCK, adopt_state, latest_state, owner_of, take_charge
from async_tick.handover import is_behind
from async_tick.loop import loop_lock
from tests.conftest import ROOT
from tests.integration.engine_support import until
from tests.integration.route_job import job, read_state, write_state
from tickover.execution import System
from tickover.ground.raw import connect_raw


@pytest.fixture(autouse=True)
def fresh(database: str) -> str:
    """A database of the test's own."""
    return database


def switched(run: str) -> route.Route:
    """The new system in charge, and a tick of it adopted, which the old system's store knows nothing of."""
    now = route.move(route.read_route(), System.ASYNC, author="x", reason="y")
    adopt(run, 0)
    return now


def adopt(run: str, tick: int) -> None:
    charge = take_charge(run, tick, f"{run}/{tick}/async/control/1", str(uuid.uuid4()))
    state: Any = latest_state(run, job)[1]
    adopt_state(charge, "done", {"entries": [*state["entries"], [tick, "async"]]})


def back(run: str, home: Path, workflow: Any = job, **more: Any) -> rollback.RolledBack:
    seen = more.pop("seen", None) or route.read_route()
    return rollback.roll_back(seen, workflow, run, home, author="x", reason="z", **more)


def dies(home: Path, run: str, fatal: str) -> int:
    """Roll back in a process that kills itself; how many statements it had, or 0 if it died."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.dying", str(home), run, fatal], cwd=ROOT, env=dict(os.environ),
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode in (0, -9), done.stderr
    return int(done.stdout) if done.returncode == 0 else 0


def locks() -> int:
    with closing(connect_raw()) as connection, connection.cursor() as do:
        do.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid IN (%s, %s) AND database = "
            "(SELECT oid FROM pg_database WHERE datname = current_database())", (BOUNDARY_LOCK, ROUTE_LOCK),
        )  # fmt: skip
        return int(do.fetchall()[0][0])


@pytest.mark.timeout(300)
def test_a_rollback_that_is_killed_before_any_of_its_statements_is_ended_by_the_next(tmp_path: Path) -> None:
    """kill -9 at each boundary: the route moves once, by the dead one or the next; the store gets the state, and no
    lock stays."""
    switched("whole")
    statements = dies(tmp_path / "whole", "whole", "0")
    assert statements > 10
    for number in range(1, statements + 1):
        run = home = f"run{number}"
        before = switched(run)
        assert dies(tmp_path / home, run, str(number)) == 0
        until(lambda: locks() == 0)
        done = back(run, tmp_path / home, seen=before)
        assert (done.route.owner, done.route.epoch) == (System.LEGACY, before.epoch + 1), number
        assert read_state(tmp_path / home)["entries"] == [[0, "async"]], number
        assert not is_behind(run, 1, tmp_path / home)


def test_a_store_that_was_being_written_is_written_again(tmp_path: Path) -> None:
    """kill -9 while the old system's store is half written: the next rollback writes the whole of it."""
    before = switched("run")
    assert dies(tmp_path, "run", "write") == 0
    with pytest.raises(json.JSONDecodeError):
        read_state(tmp_path)
    done = back("run", tmp_path)
    assert (done.moved, done.written, done.route.epoch) == (False, 0, before.epoch + 1)
    assert read_state(tmp_path)["entries"] == [[0, "async"]]


def test_a_store_that_got_its_state_is_not_written_again(tmp_path: Path) -> None:
    """What the old system writes by itself after a rollback is undone neither by a second one nor by a loop."""
    from async_tick.serving import Server

    switched("run")
    assert back("run", tmp_path).written == 0
    write_state(tmp_path, {"entries": [[0, "async"], ["by hand", "legacy"]]})
    again = back("run", tmp_path)
    assert (again.moved, again.written, again.why_not) == (False, None, None)
    server = Server(job, "tests.integration.route_job:job", "run", tmp_path, time_scale=1.0)
    with closing(server), closing(connect_raw()) as connection:
        ended = server.tick(connection)
    assert ended is not None and ended.owner is System.LEGACY
    assert read_state(tmp_path)["entries"] == [[0, "async"], ["by hand", "legacy"], [1, "legacy"]]


def test_a_store_that_was_removed_is_written_again(tmp_path: Path) -> None:
    """What is remembered as written is of no use when it is gone."""
    switched("run")
    back("run", tmp_path / "home")
    (tmp_path / "home" / "list.json").unlink()
    assert back("run", tmp_path / "home").written == 0
    assert read_state(tmp_path / "home")["entries"] == [[0, "async"]]


def test_a_store_that_cannot_be_written_does_not_keep_the_route(tmp_path: Path) -> None:
    """write_state fails: the old system is in charge all the same, it is said why, and the next rollback ends it."""
    import dataclasses

    def full(home: Path, state: Any) -> None:
        raise OSError(28, "No space left on device")

    before = switched("run")
    done = back("run", tmp_path, dataclasses.replace(job, write_state=full))
    assert done.route.epoch == before.epoch + 1 and done.written is None
    assert done.why_not is not None and "No space left" in done.why_not
    assert back("run", tmp_path).written == 0


def test_a_route_that_somebody_else_moved_back_is_no_error(tmp_path: Path) -> None:
    """A guardrail was faster: the rollback takes its route and writes the store."""
    before = switched("run")
    now = route.move(before, System.LEGACY, author="tickover guardrail", reason="slow")
    done = back("run", tmp_path, seen=before)
    assert (done.route.epoch, done.written) == (now.epoch, 0)


def test_who_is_put_in_charge_meanwhile_stays_so(tmp_path: Path) -> None:
    """A rollback that was decided on an older route does not undo a later switchover."""
    before = switched("run")
    there = route.move(
        route.move(before, System.LEGACY, author="x", reason="z"), System.ASYNC, author="x", reason="y"
    )
    with pytest.raises(route.RouteMoved):
        back("run", tmp_path, seen=before)
    assert route.read_route() == there


@contextmanager
def loop_and_worker(run: str) -> Iterator[None]:
    """Sessions that look like those of a loop and of a worker."""
    with closing(connect_raw()) as loop, closing(connect_raw(application_name="tickover sweeper")):
        loop.autocommit = True
        with loop.cursor() as do:
            do.execute("SELECT pg_advisory_lock(%s)", (loop_lock(run),))
            yield


def test_a_database_that_ends_all_sessions_delays_a_rollback(tmp_path: Path) -> None:
    """It waits for a running tick when its session is cut off, as a restart does: it begins anew and gets there."""
    before = switched("run")
    take_charge("run", 1, "run/1/async/control/1", str(uuid.uuid4()))
    found: list[rollback.RolledBack] = []
    with loop_and_worker("run"):
        waiting = threading.Thread(target=lambda: found.append(back("run", tmp_path, seen=before, wait_s=2.0)))
        waiting.start()
        try:
            until(lambda: locks() == 1)
            assert cut_off("tickover rollback") == 1
        finally:
            waiting.join(60)
    assert [(done.fenced, done.loop_is_there, done.route.epoch) for done in found] == [(True, True, before.epoch + 1)]
    assert owner_of("run", 1) is System.ASYNC and locks() == 0


def cut_off(application_name: str) -> int:
    with closing(connect_raw()) as connection, connection.cursor() as do:
        do.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = %s",
            (application_name,),
        )
        return int(do.fetchall()[0][0])


def test_a_session_that_keeps_the_route_is_ended(tmp_path: Path) -> None:
    """A paused process holds the route's lock: it is cut off, and the rollback goes on."""
    before = switched("run")
    with closing(connect_raw()) as stuck, stuck.cursor() as do:
        do.execute("SELECT pg_advisory_lock_shared(%s)", (ROUTE_LOCK,))
        stuck.commit()
        assert back("run", tmp_path).route.epoch == before.epoch + 1
    assert read_state(tmp_path)["entries"] == [[0, "async"]]
