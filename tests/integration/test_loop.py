"""The loop on real servers, with the old system in a process of its own: what each crash and each move leaves."""

from __future__ import annotations

import subprocess
import sys
import threading
import uuid
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest
import redis

from tests.conftest import ROOT
from tests.integration.engine_support import StartWorker, until
from tests.integration.route_job import job, read_state, write_state
from tickover.boundary.observation import LegacyRequest
from tickover.ground.servers import Endpoints

WORKLOAD = "tests.integration.route_job:job"


@pytest.fixture
def loop(orchestrator: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A loop of the small job, and what the test asks it."""
    monkeypatch.setenv("TICKOVER_WORKLOAD", WORKLOAD)
    from async_tick.loop import Loop
    from async_tick.serving import Server

    return Loop(Server(job, WORKLOAD, "run", tmp_path / "home", time_scale=1.0), every_s=0)


def entries(home: Path) -> list[list[Any]]:
    """The list as the old system's store has it."""
    found: list[list[Any]] = read_state(home)["entries"]
    return found


def move(to: str) -> None:
    from async_tick.route import move as move_to
    from async_tick.route import read_route
    from tickover.execution import System

    move_to(read_route(), System(to), author="test", reason="test")


def rows() -> list[tuple[Any, ...]]:
    from tickover.ground.raw import connect_raw

    with closing(connect_raw()) as connection, connection.cursor() as do:
        do.execute("SELECT tick, owner, outcome FROM ticks WHERE run = 'run' ORDER BY tick")
        return list(do.fetchall())


def test_a_rollback_under_a_running_tick_keeps_all_that_was_written(loop: Any, tmp_path: Path) -> None:
    """No worker is there, so the new system's tick never ends: after the rollback the old system runs that very tick,
    from the state that the new one had left, and not from its own older store."""
    from async_tick.adoption import adopt_state, take_charge

    write_state(tmp_path / "home", {"entries": [["old", "legacy"]]})
    move("async")
    charge = take_charge("run", 0, "run/0/async/control/1", str(uuid.uuid4()))
    adopt_state(charge, "done", {"entries": [["old", "legacy"], [0, "async"]]})
    ended: list[Any] = []
    server = threading.Thread(target=lambda: loop.serve(1, lambda end, late: ended.append(end)))
    server.start()
    try:
        until(lambda: len(rows()) == 2)
        assert rows()[1] == (1, "async", None)
        move("legacy")
        server.join(30)
    finally:
        loop.stopped.set()
        server.join()
    assert [(end.tick, end.owner.value, end.status) for end in ended] == [(1, "legacy", "done")]
    assert entries(tmp_path / "home") == [["old", "legacy"], [0, "async"], [1, "legacy"]]


def test_a_crash_while_the_store_is_written_loses_nothing(
    loop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop dies while it hands the state to the old system: the next loop hands it over again, whole."""
    from async_tick.adoption import adopt_state, take_charge
    from tickover.boundary.child import LegacyProcess

    move("async")
    adopt_state(
        take_charge("run", 0, "run/0/async/control/1", str(uuid.uuid4())), "done", {"entries": [[0, "async"]]}
    )  # fmt: skip
    move("legacy")
    with monkeypatch.context() as patch:

        def dies(self: LegacyProcess, document: Any) -> None:
            raise ConnectionError("killed")

        patch.setattr(LegacyProcess, "write_state", dies)
        with pytest.raises(ConnectionError):
            loop.serve(1, lambda end, late: None)
    loop.serve(1, lambda end, late: None)
    assert entries(tmp_path / "home") == [[0, "async"], [1, "legacy"]]
    assert rows() == [(0, "async", "done"), (1, "legacy", "done")]


def test_each_tick_goes_to_who_is_in_charge_with_the_state_of_the_one_before(
    loop: Any, start_worker: StartWorker, tmp_path: Path
) -> None:
    """Old, new, old: one list, in which each tick stands once, with its owner."""
    start_worker("seven", pool="threads", TICKOVER_WORKLOAD=WORKLOAD)
    for to in ("legacy", "async", "legacy"):
        if to != "legacy" or rows():
            move(to)
        loop.serve(2, lambda end, late: None)
    assert entries(tmp_path / "home") == [
        [0, "legacy"], [1, "legacy"], [2, "async"], [3, "async"], [4, "legacy"], [5, "legacy"],
    ]  # fmt: skip
    assert [row[2] for row in rows()] == ["done"] * 6
    ledger = (tmp_path / "home" / "ledger").read_text()
    assert [line.split()[1] for line in ledger.splitlines() if line.startswith("delivered")] == ["2", "3"]


def test_a_loop_that_lost_the_run_leaves_the_home(loop: Any, tmp_path: Path) -> None:
    """Its session is cut off and another serves the run before it is back: while it waits for the run it does not
    keep the old system's home, or the other's old system could not run."""
    from async_tick.loop import loop_lock
    from tickover.boundary.home import holding
    from tickover.ground.raw import connect_raw

    server = threading.Thread(target=lambda: loop.serve(None, lambda end, late: None))
    server.start()
    try:
        until(lambda: len(rows()) > 1)
        with closing(connect_raw()) as other, other, other.cursor() as do:
            do.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tickover loop' "
                "AND datname = current_database()"
            )
            do.execute("SELECT pg_advisory_lock(%s)", (loop_lock("run"),))
            with holding(tmp_path / "home", 10.0):
                assert server.is_alive()
    finally:
        loop.stopped.set()
        server.join(30)


def test_the_old_system_stands_by_while_the_new_one_is_in_charge(
    loop: Any, start_worker: StartWorker, tmp_path: Path
) -> None:
    """Its process is replaced by a fresh one under the new system's ticks: after the rollback its store is written
    and its tick runs without waiting for another start."""
    start_worker("seven", pool="threads", TICKOVER_WORKLOAD=WORKLOAD)
    loop.serve(1, lambda end, late: None)
    move("async")
    legacy = loop.server.legacy
    begun: list[int] = []

    def tell(end: Any, late: bool) -> None:
        if end.owner.value == "async" and end.tick == 2:
            until(lambda: legacy.starts == 3 and legacy.pid is not None)
            begun.append(legacy.starts)
            move("legacy")

    # The loop that ended has ended its process too: the second start is this loop's first.
    legacy.start()
    assert legacy.starts == 2
    legacy.run_tick(LegacyRequest(run="elsewhere", tick=0))
    loop.serve(4, tell)
    assert begun == [3] and legacy.starts == 3
    assert [row[1] for row in rows()] == ["legacy", "async", "async", "legacy", "legacy"]
    assert [entry for entry in entries(tmp_path / "home") if entry[1] == "async"] == [[1, "async"], [2, "async"]]


@pytest.fixture
def hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that the first legacy process removes which imports `stuck`, and it never comes to the end of that."""
    (tmp_path / "stuck.py").write_text(
        "import pathlib, sys, threading\n"
        "hangs = pathlib.Path(__file__).with_name('hangs')\n"
        "if 'tickover.host' in sys.orig_argv and hangs.exists():\n"
        "    hangs.unlink()\n"
        "    threading.Event().wait(300)\n"
        "from tests.integration.route_job import job\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = tmp_path / "hangs"
    found.touch()
    return found


@pytest.mark.parametrize("what", ["rollback", "end"])
def test_a_process_that_hangs_while_it_stands_by_is_not_waited_for(
    orchestrator: ModuleType, tmp_path: Path, hangs: Path, what: str
) -> None:
    """The old system's process hangs in its import while the new one is in charge: after a rollback another one is
    started for the old system's tick, and a loop that is to stop ends."""
    from async_tick.loop import Loop
    from async_tick.serving import Server

    move("async")
    loop = Loop(Server(job, "stuck:job", "run", tmp_path / "home", time_scale=1.0), every_s=0)
    legacy = loop.server.legacy
    server = threading.Thread(target=lambda: loop.serve(1, lambda end, late: None))
    server.start()
    try:
        until(lambda: not hangs.exists())
        stuck = legacy.pid
        if what == "rollback":
            move("legacy")
            until(lambda: rows() and rows()[-1] == (0, "legacy", "done"))
            assert legacy.starts == 2
        else:
            loop.stop()
            server.join(20)
            assert not server.is_alive()
        assert stuck is not None and not psutil.pid_exists(stuck)
    finally:
        loop.stopped.set()
        legacy.kill()
        server.join(30)


def test_a_rollback_with_everything_dead_gets_the_home_from_a_process_that_hung(
    orchestrator: ModuleType, tmp_path: Path, hangs: Path
) -> None:
    """Loop and worker are killed while the old system's process hangs in its import: that ends with them, and the
    rollback writes the old system's store."""
    from async_tick.adoption import adopt_state, take_charge
    from async_tick.rollback import roll_back
    from async_tick.route import read_route

    move("async")
    charge = take_charge("run", 0, "run/0/async/control/1", str(uuid.uuid4()))
    adopt_state(charge, "done", {"entries": [[0, "async"]]})
    home = tmp_path / "home"
    command = [sys.executable, str(ROOT / "cli.py"), "serve", "--workload=stuck:job", "--run=run", f"--home={home}"]
    loop = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: not hangs.exists(), 60.0)
    finally:
        loop.kill()
        loop.wait()
    done = roll_back(read_route(), job, "run", home, author="test", reason="all is dead")
    assert (done.moved, done.loop_is_there, done.written, done.why_not) == (True, False, 0, None)
    assert entries(home) == [[0, "async"]]


def test_a_rollback_needs_no_broker_that_answers(
    loop: Any, start_worker: StartWorker, tmp_path: Path, servers: Endpoints
) -> None:
    """Redis is there and does not answer, which keeps whoever talks to it waiting: the old system runs on after a
    rollback all the same."""
    start_worker("seven", pool="threads", TICKOVER_WORKLOAD=WORKLOAD)
    assert servers.redis_url is not None
    with closing(redis.Redis.from_url(servers.redis_url)) as client:
        broker = psutil.Process(client.info()["process_id"])
    move("async")
    server = threading.Thread(target=lambda: loop.serve(None, lambda end, late: None))
    server.start()
    try:
        until(lambda: len(rows()) > 2)
        broker.suspend()
        until(lambda: rows()[-1][2] is None and len({len(rows()) for _ in range(50)}) == 1)
        move("legacy")
        until(lambda: rows()[-1][1:] == ("legacy", "done"), 30.0)
    finally:
        broker.resume()
        loop.stopped.set()
        server.join(30)
