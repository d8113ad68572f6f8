"""One command over, one command back, on the command line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
import pytest

from tests.conftest import ROOT, clean_environment, data_directory, scripted_model
from tickover.canonical import canonical_text, normalise

# Dozens of commands, each a process that loads the whole of it.
pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def environment(calm_model: str) -> Iterator[dict[str, str]]:
    """A user with an empty data directory, whose servers stay up."""
    with data_directory("tickover-switchover-") as data_dir:
        found = clean_environment(TICKOVER_DATA_DIR=str(data_dir), TICKOVER_MODEL_URL=calm_model)
        run(found, "servers", "start")
        yield found


def run(environment: dict[str, str], *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "cli.py", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True,
        check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def _served(environment: dict[str, str], ticks: int) -> list[str]:
    lines = run(environment, "serve", "--ticks", str(ticks), "--every", "0").splitlines()
    return [" ".join(line.split()[:4]) for line in lines if line.startswith("tick ")]


def _memories(environment: dict[str, str]) -> int:
    import sqlite3

    home = Path(environment["TICKOVER_DATA_DIR"]) / "home" / "main"
    with closing(sqlite3.connect(home / "being.db")) as db:
        return int(db.execute("SELECT count(*) FROM memories").fetchone()[0])


def test_over_and_back_and_nothing_is_lost(environment: dict[str, str]) -> None:
    """The old system serves, then the new one, then the old one again from the state that the new one left."""
    assert _served(environment, 2) == ["tick 0: legacy done", "tick 1: legacy done"]
    assert _memories(environment) == 4
    refused = run(environment, "switchover", "--yes", code=1)
    assert "FAILED  verdict" in refused and "not switched" in refused
    assert json.loads(run(environment, "route", "--json"))["owner"] == "legacy"
    switched = run(environment, "switchover", "--yes", "--force", "--reason", "trial")
    assert "restored once" in switched and "no loop serves run main" in switched
    assert _served(environment, 2) == ["tick 2: async done", "tick 3: async done"]
    assert _memories(environment) == 4
    run(environment, "rollback", "--reason", "enough")
    # What the new system remembered stands in the old one's store, before that runs again.
    assert _memories(environment) == 8
    assert _served(environment, 1) == ["tick 4: legacy done"]
    assert _memories(environment) == 10
    history = json.loads(run(environment, "route", "--json"))["history"]
    assert [each["owner"] for each in history] == ["legacy", "async", "legacy"]
    assert "trial (forced, although workers, verdict failed)" in history[1]["reason"]
    assert history[1]["guardrails"]["window_ticks"] == 60 and history[2]["reason"] == "enough"
    assert [path.name for path in (Path(environment["TICKOVER_DATA_DIR"]) / "backups").glob("*/*")]
    home = Path(environment["TICKOVER_DATA_DIR"]) / "home" / "main"
    assert len(list((home / "notes").glob("*.md"))) == 5
    run(environment, "rollback", "--reason", "again", code=2)


def test_a_tick_of_the_old_system_that_was_cut_off_is_lost_and_not_run_again(environment: dict[str, str]) -> None:
    """kill -9 of the loop under the old system's tick: the next loop counts it as lost and goes on."""
    with scripted_model(chat_s=0.4) as slow, _loop({**environment, "TICKOVER_MODEL_URL": slow}):
        pass
    # Back to back, the next tick had begun, or was about to.
    ended = _served(environment, 2)
    assert ended[0] in ("tick 1: legacy lost", "tick 1: legacy done")
    assert ended[1] == "tick 2: legacy done"


@contextmanager
def _loop(environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A loop that serves ticks back to back, one of which it has ended; in the end it is killed with -9."""
    loop = subprocess.Popen(
        [sys.executable, "cli.py", "serve", "--every", "0"], cwd=ROOT, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    assert loop.stdout is not None
    try:
        assert loop.stdout.readline().startswith("tick 0: legacy")
        yield loop
    finally:
        if loop.poll() is None:
            loop.kill()
        loop.wait()
        loop.stdout.close()


def _states(environment: dict[str, str]) -> list[tuple[int, str, str]]:
    """Adopted ticks with owner and state."""
    urls = run(environment, "servers", "status").splitlines()
    url = next(line.split("=", 1)[1] for line in urls if line.startswith("DATABASE_URL="))
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as do:
        do.execute("SELECT tick, owner, document FROM ticks JOIN states USING (run, tick) ORDER BY tick")
        return list(do.fetchall())


def test_a_loop_follows_and_everything_may_die_under_a_rollback(environment: dict[str, str]) -> None:
    """With a loop there, the switchover waits for the new system's first tick and shows it. Then loop, workers, Redis
    and PostgreSQL are killed with -9 under a running tick: one rollback, and the old system's store has the state."""
    from digital_being.state import read_state

    with _loop(environment) as loop:
        said = run(environment, "switchover", "--yes", "--force", "--reason", "trial", "--wait", "60")
        assert "it goes on by itself" in said and re.search(r"^tick \d+: async done in", said, re.MULTILINE), said
        lines = run(environment, "servers", "status").splitlines()
        pids = {
            name: int(line.split()[-1]) for line in lines for name in ("redis", "postgres") if line.startswith(name)
        }
        assert pids.keys() == {"redis", "postgres"}
        os.kill(loop.pid, signal.SIGKILL)
        for pid in pids.values():
            os.kill(pid, signal.SIGKILL)
    assert "legacy is in charge" in run(environment, "rollback", "--reason", "all is dead")
    tick, owner, document = _states(environment)[-1]
    assert owner == "async"
    home = Path(environment["TICKOVER_DATA_DIR"]) / "home" / "main"
    assert canonical_text(normalise(read_state(home))) == document
    assert _served(environment, 1) == [f"tick {tick + 1}: legacy done"]
