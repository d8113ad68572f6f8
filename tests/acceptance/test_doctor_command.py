"""`tickover doctor` as people type it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import RunCommand, data_directory


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """An empty data directory that root's PostgreSQL can pass into."""
    with data_directory("tickover-doctor-") as made:
        yield made


def test_a_first_look_with_nothing_set(tickover: RunCommand, data_dir: Path) -> None:
    """With embedded servers all is fine or a warning, exit code 0; each warning has its remedy below it; what was
    started is stopped."""
    done = tickover("doctor", TICKOVER_DATA_DIR=str(data_dir))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert any(line.startswith("ok       database: PostgreSQL") for line in lines)
    assert any(line.startswith("ok       migrations:") and "next command" in line for line in lines)
    warned = [number for number, line in enumerate(lines) if line.startswith("warning  ")]
    assert warned and all(lines[number + 1].startswith("         -> ") for number in warned)
    assert done.stderr.splitlines()[-1].startswith("problem 0, warning ")
    assert tickover("servers", "status", TICKOVER_DATA_DIR=str(data_dir)).returncode == 3


def test_a_problem_is_exit_code_1(tickover: RunCommand, empty_database: str, broker: str) -> None:
    """A database without the schema: exit code 1, and the same findings as JSON."""
    own = {"DATABASE_URL": empty_database, "CELERY_BROKER_URL": broker}
    done = tickover("doctor", **own)
    assert done.returncode == 1
    assert "PROBLEM  migrations: " in done.stdout and "-> run `tickover db upgrade`" in done.stdout
    machine = tickover("doctor", "--json", **own)
    assert machine.returncode == 1
    found = {each["name"]: each for each in json.loads(machine.stdout)}
    assert found["migrations"]["level"] == "problem"
    assert found["migrations"]["remedy"] == "run `tickover db upgrade`"
    assert all(set(each) == {"name", "level", "said", "remedy"} for each in found.values())


def test_one_server_down_is_a_finding(tickover: RunCommand, database: str) -> None:
    """The broker is down: exit code 1, and the database was looked at all the same."""
    done = tickover("doctor", DATABASE_URL=database, CELERY_BROKER_URL="redis://:s3cret@127.0.0.1:1/0")
    assert done.returncode == 1
    assert "PROBLEM  broker: " in done.stdout and "ok       migrations: " in done.stdout
    assert "s3cret" not in done.stdout + done.stderr


def test_nothing_to_look_at_is_exit_code_3(tickover: RunCommand) -> None:
    """Neither server answers: exit code 3, each told, and no password shows."""
    done = tickover(
        "doctor",
        DATABASE_URL="postgresql://u:s3cret@127.0.0.1:1/x",
        CELERY_BROKER_URL="redis://:s3cret@127.0.0.1:1/0",
    )
    assert done.returncode == 3
    assert "PROBLEM  database: " in done.stdout and "PROBLEM  broker: " in done.stdout
    assert "s3cret" not in done.stdout + done.stderr


def test_a_wrong_setting_is_exit_code_2(tickover: RunCommand) -> None:
    """A setting that cannot be read ends it before anything is looked at."""
    done = tickover("doctor", TICKOVER_POOL="gevent")
    assert done.returncode == 2 and "TICKOVER_POOL" in done.stderr
