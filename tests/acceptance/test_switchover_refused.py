"""Switchovers that must not be: each is refused by name with its exit code, and changes nothing."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
import pytest

from tests.conftest import ROOT, clean_environment, data_directory
from tickover.ground.process import ChildProcess

# Each command is a process that loads the whole of it, and asks workers that are not there.
pytestmark = pytest.mark.timeout(300)
FORCED = ("--force", "--reason", "trial")


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """A user with servers that stay up, and with a short shadow run."""
    with data_directory("tickover-refused-") as data_dir:
        found = clean_environment(TICKOVER_DATA_DIR=str(data_dir), TICKOVER_TIME_SCALE="0.05")
        said = run(found, "servers", "start")
        urls = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
        run(found, "shadow", "--ticks", "3", "--every", "0s")
        yield found | {"URL": urls["DATABASE_URL"]}


def run(environment: dict[str, str], *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "cli.py", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True,
        check=False, timeout=100, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(autouse=True)
def nothing_moves(environment: dict[str, str]) -> Iterator[None]:
    """Whatever is refused leaves the route where it was, and no backup."""
    yield
    history = json.loads(run(environment, "route", "--json"))["history"]
    assert [each["owner"] for each in history] == ["legacy"]
    backups = Path(environment["TICKOVER_DATA_DIR"]) / "backups"
    assert not backups.exists() or list(backups.iterdir()) == []


def test_nothing_is_done_without_an_answer(environment: dict[str, str]) -> None:
    """Plan and checks are shown; where there is no terminal to ask at, that is said, with the option that does."""
    said = run(environment, "switchover", *FORCED, code=2)
    assert "way back" in said and "no terminal to ask at" in said and "--yes" in said


def test_a_no_at_the_prompt_does_nothing(environment: dict[str, str]) -> None:
    """On a terminal it asks, and takes no for an answer."""
    ours, theirs = pty.openpty()
    try:
        asked = subprocess.Popen(
            [sys.executable, "cli.py", "switchover", *FORCED], cwd=ROOT, env=environment, stdin=theirs,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        os.write(ours, b"n\n")
        said, _ = asked.communicate(timeout=100)
    finally:
        os.close(ours)
        os.close(theirs)
    assert asked.returncode == 1 and "put the new system in charge?" in said and "nothing was done" in said


def test_a_dry_run_says_how_it_would_end(environment: dict[str, str]) -> None:
    """It does nothing: 1 where a check failed, 0 where that would be forced."""
    said = run(environment, "switchover", "--dry-run", code=1)
    assert "dry run: nothing was done" in said and "workers, verdict" in said
    assert "dry run: nothing was done" in run(environment, "switchover", "--dry-run", *FORCED)


def test_a_held_route_does_not_move(environment: dict[str, str]) -> None:
    """A hold is named with the command that ends it, and --force does not overrule it."""
    number = run(environment, "hold", "--reason", "deploying").split()[1].rstrip(";")
    try:
        said = run(environment, "switchover", "--yes", *FORCED, code=1)
        assert "FAILED  holds" in said and "tickover release" in said and "does not overrule" in said
    finally:
        run(environment, "release", number)


def test_wrong_options_are_named(environment: dict[str, str]) -> None:
    """--force without a reason, a backup that is wanted and not, an unknown policy, a run that there is not."""
    assert "--force needs --reason" in run(environment, "switchover", "--force", code=2)
    assert "leave out one" in run(environment, "switchover", "--no-backup", "--backup", "x", code=2)
    assert "none.toml" in run(environment, "switchover", "--policy", "none.toml", code=2)
    assert "FAILED  verdict" in run(environment, "switchover", "no-such-run", "--yes", code=1)


def test_a_folder_that_cannot_be_written_stops_it(environment: dict[str, str], tmp_path: Path) -> None:
    """The check names the place; forced, the backup fails and nothing moves."""
    (tmp_path / "file").write_text("")
    folder = str(tmp_path / "file" / "backup")
    assert "FAILED  backup" in run(environment, "switchover", "--yes", "--backup", folder, code=1)
    assert "cannot be written" in run(environment, "switchover", "--yes", *FORCED, "--backup", folder, code=2)
    assert "FAILED  backup" in run(environment, "switchover", "--yes", "--no-backup", code=1)


def test_stale_evidence_and_evidence_of_other_code_are_refused(environment: dict[str, str], tmp_path: Path) -> None:
    """The policy says how old the newest comparison may be; a run of other code says nothing of this one."""
    text = (ROOT / "reports" / "policies" / "scaled.toml").read_text(encoding="utf-8")
    (tmp_path / "strict.toml").write_text(text.replace("evidence_hours = 24", "evidence_hours = 0"))
    said = run(environment, "switchover", "--policy", str(tmp_path / "strict.toml"), "--yes", code=1)
    assert "FAILED  freshness" in said and "0 h are allowed" in said and "ok      evidence" in said
    with closing(psycopg2.connect(environment["URL"])) as connection:
        with connection, connection.cursor() as do:
            do.execute("UPDATE shadow_runs SET behaviour_key = 'other' || behaviour_key")
        try:
            said = run(environment, "switchover", "--policy", "scaled", "--yes", code=1)
            assert "FAILED  evidence" in said and "ran other code" in said and "ok      freshness" in said
        finally:
            with connection, connection.cursor() as do:
                do.execute("UPDATE shadow_runs SET behaviour_key = substr(behaviour_key, 6)")


@contextmanager
def worker(environment: dict[str, str]) -> Iterator[None]:
    """A worker for both queues."""
    log = Path(environment["TICKOVER_DATA_DIR"]) / "worker.log"
    command = [sys.executable, "cli.py", "worker", "--pool", "prefork", "--concurrency", "1"]
    with ChildProcess(command, env=environment, cwd=ROOT, log_path=log) as process:
        process.wait_ready(lambda: "ready." in process.log_tail(100_000), 60)
        yield


def test_an_open_verdict_alone_ends_with_its_own_code(environment: dict[str, str]) -> None:
    """Everything else is well: the verdict after three ticks is KEEP_RUNNING, and so is the exit code."""
    with worker(environment):
        said = run(environment, "switchover", "--policy", "scaled", "--yes", code=4)
    assert "ok      workers" in said and "queue critical" in said and "KEEP_RUNNING" in said
    assert said.count("FAILED") == 1
