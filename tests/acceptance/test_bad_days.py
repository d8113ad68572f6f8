"""Interrupted commands, servers that die under them, and passwords that must not show."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT, RunCommand, clean_environment, data_directory
from tests.integration.engine_support import until

SECRET = "hunter2-the-password"


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """A user with an empty data directory."""
    with data_directory("tickover-bad-days-") as data_dir:
        yield clean_environment(TICKOVER_DATA_DIR=str(data_dir), TICKOVER_TIME_SCALE="0.01")


def _run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "cli.py", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True,
        check=False, timeout=110,
    )  # fmt: skip


@contextlib.contextmanager
def _shadow(environment: dict[str, str], ticks: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A run under way, and its name."""
    begun = subprocess.Popen(
        [sys.executable, "cli.py", "shadow", "--ticks", str(ticks), "--every", "0s"], cwd=ROOT, env=environment,
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    assert begun.stderr is not None
    try:
        line = begun.stderr.readline()
        while not line.startswith("run "):
            line = begun.stderr.readline()
        yield begun, line.split()[1].rstrip(":")
    finally:
        if begun.poll() is None:
            begun.kill()
        begun.wait()
        begun.stderr.close()


def _compared(environment: dict[str, str], run: str) -> int:
    rows = json.loads(_run(environment, "runs", "--json").stdout or "[]")
    return sum(sum(row["counts"].values()) for row in rows if row["run"] == run)


def _until_compared(environment: dict[str, str], run: str, ticks: int) -> None:
    deadline = time.monotonic() + 60
    while _compared(environment, run) < ticks:
        assert time.monotonic() < deadline, "the run made no progress"


def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(environment: dict[str, str]) -> None:
    """Interrupted once: exit code 130, a message that names --resume, nothing runs on, and --resume ends the run."""
    _run(environment, "servers", "start")
    before = {process.pid for process in psutil.process_iter()}
    with _shadow(environment, 40) as (begun, run):
        _until_compared(environment, run, 5)
        begun.send_signal(signal.SIGINT)
        assert begun.stderr is not None
        said = begun.stderr.read()
        assert begun.wait(30) == 130
    assert f"--resume {run}" in said and "Traceback" not in said
    # A child that was just being started ends when it finds its pipe closed.
    until(lambda: not _left(environment, before))
    resumed = json.loads(_run(environment, "shadow", "--resume", run, "--json").stdout)
    assert sum(resumed["counts"].values()) == 40
    assert resumed["counts"].get("not_compared", 0) <= 1


def _left(environment: dict[str, str], before: set[int]) -> list[psutil.Process]:
    """Processes of this data directory that were not there before."""
    return [
        process for process in psutil.process_iter(["pid", "environ"])
        if process.pid not in before and (process.info["environ"] or {}).get("TICKOVER_DATA_DIR")
        == environment["TICKOVER_DATA_DIR"]
    ]  # fmt: skip


def test_a_database_that_is_killed_under_a_run_costs_no_tick(environment: dict[str, str]) -> None:
    """PostgreSQL is killed with -9 and comes up again: the run ends by itself or is resumed, and each tick has one
    comparison."""
    _run(environment, "servers", "start")
    with _shadow(environment, 40) as (begun, run):
        _until_compared(environment, run, 5)
        postmaster = Path(environment["TICKOVER_DATA_DIR"]) / "servers" / "postgres" / "postmaster.pid"
        os.kill(int(postmaster.read_text().split()[0]), signal.SIGKILL)
        assert begun.stderr is not None
        begun.stderr.read()
        code = begun.wait(100)
    assert code in (0, 3)
    resumed = _run(environment, "shadow", "--resume", run, "--json")
    assert resumed.returncode == 0, resumed.stderr
    counts = json.loads(resumed.stdout)["counts"]
    assert sum(counts.values()) == 40
    assert "mismatch" not in counts and counts.get("not_compared", 0) <= 5


@pytest.mark.parametrize(
    "command",
    [["status"], ["db", "current"], ["db", "upgrade"], ["once", "0"], ["serve", "--ticks", "1"], ["runs"], ["report"],
     ["shadow", "--ticks", "1"], ["worker", "--concurrency", "1"], ["checkpoints"], ["--debug", "status"]],
    ids=" ".join,
)  # fmt: skip
def test_no_password_is_shown(tickover: RunCommand, command: list[str]) -> None:
    """A database that cannot be reached: the error names host and user, and no output has the password."""
    done = tickover(
        *command, DATABASE_URL=f"postgresql://ada:{SECRET}@127.0.0.1:1/being",
        CELERY_BROKER_URL=f"redis://:{SECRET}@127.0.0.1:1/0", TICKOVER_LOG_LEVEL="DEBUG",
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert "127.0.0.1" in done.stderr
    assert "--debug" in command or "Traceback" not in done.stderr
