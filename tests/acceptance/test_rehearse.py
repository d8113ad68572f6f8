"""The rehearsal on the command line: over and back on a copy, timed and checked, and nothing of it is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import psycopg2
import pytest

from tests.conftest import ROOT, clean_environment, data_directory

JOB = "tests.integration.route_job:job"
# Each command is a process that loads the whole of it.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """A user of a small job with servers that stay up, and a temporary directory of their own."""
    with data_directory("tickover-rehearsed-") as data_dir:
        (data_dir / "tmp").mkdir(mode=0o777)
        found = clean_environment(TICKOVER_DATA_DIR=str(data_dir), TICKOVER_WORKLOAD=JOB)
        said = run(found, "servers", "start").stdout
        yield found | {
            "URL": next(line[13:] for line in said.splitlines() if line.startswith("DATABASE_URL=")),
            "TMPDIR": str(data_dir / "tmp"),
        }


def run(environment: dict[str, str], *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "cli.py", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True,
        check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


def _left(environment: dict[str, str]) -> list[str]:
    """Databases, files and processes of a rehearsal."""
    with closing(psycopg2.connect(environment["URL"])) as connection, connection.cursor() as do:
        do.execute("SELECT datname FROM pg_database WHERE datname LIKE 'tickover_rehearsal%'")
        found = [row[0] for row in do.fetchall()]
    found += [path.name for path in Path(environment["TMPDIR"]).iterdir()]
    for process in psutil.process_iter(["environ", "cmdline"]):
        if (process.info["environ"] or {}).get("TMPDIR") == environment["TMPDIR"]:
            found.append(" ".join(process.info["cmdline"] or []))
    return found


def _tick_rows(environment: dict[str, str]) -> int:
    with closing(psycopg2.connect(environment["URL"])) as connection, connection.cursor() as do:
        do.execute("SELECT count(*) FROM ticks")
        return int(do.fetchall()[0][0])


def test_a_rehearsal_goes_over_and_back_on_a_copy(environment: dict[str, str]) -> None:
    """Each move is timed, each promise checked; the loop's own run, route, home and receivers notice nothing."""
    run(environment, "serve", "--ticks", "2", "--every", "0")
    home = Path(environment["TICKOVER_DATA_DIR"]) / "home" / "main"
    before = {path.name: path.read_text() for path in home.iterdir()}
    done = json.loads(run(environment, "rehearse", "--live", "--ticks", "2", "--json").stdout)
    assert done["holds"] and all(fact["holds"] for fact in done["facts"])
    assert [act["name"] for act in done["acts"]] == [
        "switchover", "rollback", "switchover again", "rollback, workers and loop dead",
    ]  # fmt: skip
    assert [act["pause_s"] is None for act in done["acts"]] == [False, False, False, True]
    assert {path.name: path.read_text() for path in home.iterdir()} == before
    assert _tick_rows(environment) == 2
    assert json.loads(run(environment, "route", "--json").stdout)["epoch"] == 1
    assert _left(environment) == []


def test_a_job_without_scripted_services_needs_consent(environment: dict[str, str]) -> None:
    """What its ticks call would be called in earnest, so that is said first."""
    assert "--live" in run(environment, "rehearse", code=2).stderr


def _begun(environment: dict[str, str]) -> subprocess.Popen[str]:
    """A rehearsal that does not end by itself, once it has ended a tick."""
    command = [sys.executable, "cli.py", "rehearse", "--live", "--ticks", "100000"]
    begun = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    assert begun.stderr is not None
    while not begun.stderr.readline().startswith("tick 0"):
        assert begun.poll() is None
    return begun


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_rehearsal_that_is_ended_leaves_nothing(environment: dict[str, str], number: signal.Signals) -> None:
    """Ctrl-C or SIGTERM while ticks run: exit code 130, and neither database, file nor process stays."""
    with _begun(environment) as begun:
        begun.send_signal(number)
        assert begun.stderr is not None
        begun.stderr.read()
    assert begun.returncode == 130
    assert _left(environment) == []


def test_what_a_killed_rehearsal_left_goes_with_the_next(environment: dict[str, str]) -> None:
    """kill -9 leaves a database behind, and processes end by themselves; the next rehearsal drops it."""
    with _begun(environment) as begun:
        os.kill(begun.pid, signal.SIGKILL)
    assert any(name.startswith("tickover_rehearsal") for name in _left(environment))
    assert json.loads(run(environment, "rehearse", "--live", "--json").stdout)["holds"]
    assert not any(name.startswith("tickover_rehearsal") for name in _left(environment))
