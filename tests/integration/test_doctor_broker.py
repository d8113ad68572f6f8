"""The doctor on real brokers and real surroundings."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from async_tick.doctor.broker import broker_findings
from async_tick.doctor.finding import Level
from async_tick.doctor.here import disk_finding
from tests.integration.engine_support import until
from tickover.ground.process import ChildProcess
from tickover.ground.redis_server import redis_binary


@contextlib.contextmanager
def redis_server(home: Path, **options: str) -> Iterator[tuple[int, ChildProcess]]:
    """A Redis of its own with these options; its port on loopback, and its process."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    given = {
        "port": str(port),
        "save": "",
        "dir": str(home),
        **{key.replace("_", "-"): options[key] for key in options},
    }
    process = ChildProcess(
        [redis_binary(), *(part for name, value in given.items() for part in (f"--{name}", value))],
        log_path=home / "redis.log",
    )  # fmt: skip

    def answers() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    try:
        until(answers)
        yield port, process
    finally:
        process.stop()


def test_an_open_redis_on_all_addresses_is_a_problem(tmp_path: Path) -> None:
    """A Redis that listens everywhere without a password is found out although it is reached over loopback."""
    with redis_server(tmp_path, bind="0.0.0.0", protected_mode="no") as (port, _):
        broker, access = broker_findings(f"redis://127.0.0.1:{port}/0")
    assert broker.level is Level.OK
    assert access.level is Level.PROBLEM
    assert "listens on 0.0.0.0 without a password" in access.said and "requirepass" in access.remedy


def test_a_password_or_loopback_is_enough(tmp_path: Path) -> None:
    """The same server with a password is fine, and the password does not show; so is one on loopback without."""
    with redis_server(tmp_path, bind="127.0.0.1", requirepass="s3cret") as (port, _):
        found = broker_findings(f"redis://:s3cret@127.0.0.1:{port}/0")
        assert [each.level for each in found] == [Level.OK, Level.OK]
        assert "s3cret" not in f"{found}"
        (refused,) = broker_findings(f"redis://127.0.0.1:{port}/0")
        assert refused.level is Level.PROBLEM and "Authentication required" in refused.said
    (tmp_path / "redis.log").unlink()
    with redis_server(tmp_path, bind="127.0.0.1", protected_mode="no") as (port, _):
        assert [each.level for each in broker_findings(f"redis://127.0.0.1:{port}/0")] == [Level.OK, Level.OK]


def test_a_broker_that_is_down_or_hangs_is_a_finding(tmp_path: Path) -> None:
    """Nothing listens; or a stopped Redis takes the connection and never answers: told, not waited for."""
    with redis_server(tmp_path, bind="127.0.0.1") as (port, process):
        os.kill(process.pid, signal.SIGSTOP)
        begun = time.monotonic()
        (hangs,) = broker_findings(f"redis://127.0.0.1:{port}/0")
        assert time.monotonic() - begun < 60
        os.kill(process.pid, signal.SIGCONT)
    assert hangs.level is Level.PROBLEM and "Timeout" in hangs.said
    (down,) = broker_findings(f"redis://127.0.0.1:{port}/0")
    assert down.level is Level.PROBLEM and "refused" in down.said


def test_a_broker_within_the_process_is_a_problem() -> None:
    """memory:// works for a test of one process and for nothing else."""
    (found,) = broker_findings("memory://")
    assert found.level is Level.PROBLEM and "within one process only" in found.said


def test_room_in_the_data_directory(tmp_path: Path) -> None:
    """The real disk, asked for more than it has; and a place that is only about to be made."""
    place = tmp_path / "not" / "made" / "yet"
    assert disk_finding(place, enough=0, least=0).level is Level.OK
    assert disk_finding(place, enough=2**62, least=0).level is Level.WARNING
    full = disk_finding(place, enough=2**62, least=2**62)
    assert full.level is Level.PROBLEM and "TICKOVER_DATA_DIR" in full.remedy


def test_what_settings_do_is_seen(orchestrator: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings from a real environment: a result backend, a scale, a lease without room, threads, limits beyond the
    broker's patience, and a limit of a step that there is not."""
    from async_tick.doctor import examine
    from tickover.ground.settings import reset_settings

    def look(**environment: str) -> dict[str, str]:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        reset_settings()
        return {each.name: f"{each.level} {each.said} {each.remedy}" for each in examine()}

    found = look(
        CELERY_RESULT_BACKEND="redis://:s3cret@localhost/1", TICKOVER_TIME_SCALE="0.5", TICKOVER_LEASE_S="6",
        TICKOVER_HEARTBEAT_S="5", TICKOVER_POOL="threads", TICKOVER_STEP_TIMEOUTS__ACTION="9000",
    )  # fmt: skip
    assert found["result backend"].startswith("warning") and "s3cret" not in str(found)
    assert found["time scale"].startswith("warning")
    assert found["lease"].startswith("problem") and "TICKOVER_HEARTBEAT_S=1" in found["lease"]
    assert found["pool"].startswith("warning")
    assert found["step limits"].startswith("warning") and "the broker waits for 3600 s" in found["step limits"]
    wrong = look(TICKOVER_STEP_TIMEOUTS__ACTOIN="9")
    assert wrong["step limits"].startswith("problem") and "ACTOIN names no step" in wrong["step limits"]
    missing = look(TICKOVER_WORKLOAD="nowhere:job")
    assert missing["workload"].startswith("problem") and "step limits" not in missing
