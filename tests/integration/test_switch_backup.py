"""The backup before a switchover, on a real server: home and database of one moment, proved, or nothing at all."""

from __future__ import annotations

import dataclasses
import json
import threading
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from async_tick.adoption import adopt_state, latest_state, take_charge
from async_tick.route import between_ticks
from shadow import switch_backup
from shadow.preflight import backup_check, state_check
from tests.integration.route_job import job, read_state, write_state
from tickover.errors import ConfigurationError, TickoverError
from tickover.ground.backup import BackupUnsound, restore
from tickover.ground.raw import connect_raw
from tickover.ground.settings import reset_settings


def serve_tick(home: Path, tick: int) -> None:
    """What a loop does with a tick of the old system: under the route's lock, store first, then its adoption."""
    from async_tick.adoption import ROUTE_LOCK

    with closing(connect_raw()) as connection:
        with connection, connection.cursor() as do:
            do.execute("SELECT pg_advisory_lock_shared(%s)", (ROUTE_LOCK,))
        charge = take_charge("run", tick, f"run/{tick}/async/control/1", str(uuid.uuid4()), connection=connection)
        state = read_state(home)
        state["entries"].append([tick, "legacy"])
        write_state(home, state)
        adopt_state(charge, "done", state, connection=connection)


def test_home_and_database_are_of_one_moment(
    database: str, empty_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a loop serves ticks back to back, what the backup gives back fits: the home holds the state of the last
    tick of the database."""
    home, stop = tmp_path / "home", threading.Event()
    write_state(home, {"entries": []})
    monkeypatch.setenv("DATABASE_URL", database)
    reset_settings()

    def loop() -> None:
        tick = 0
        while not stop.is_set():
            serve_tick(home, tick)
            tick += 1

    serving = threading.Thread(target=loop)
    serving.start()
    try:
        for number in range(3):
            made = switch_backup.make(database, job, "run", home, tmp_path / f"backup{number}")
            assert made.note in (None, "there was no home to copy")
    finally:
        stop.set()
        serving.join()
    folder = tmp_path / "backup2"
    restore(empty_database, folder / switch_backup.DATABASE)
    with closing(psycopg2.connect(empty_database)) as connection, connection.cursor() as do:
        do.execute("SELECT document FROM states ORDER BY tick DESC LIMIT 1")
        stored = json.loads(do.fetchall()[0][0])
    assert stored == read_state(folder / switch_backup.HOME) and len(stored["entries"]) > 3
    assert str(folder / switch_backup.HOME) in (folder / switch_backup.HOW).read_text()


def test_a_home_that_cannot_be_read_back_is_no_backup(database: str, tmp_path: Path) -> None:
    """The copy of a damaged store is restored, cannot be read, and nothing is kept."""
    write_state(tmp_path / "home", {"entries": []})
    (tmp_path / "home" / "list.json").write_text("{")
    with pytest.raises(BackupUnsound, match="cannot be read"):
        switch_backup.make(database, job, "run", tmp_path / "home", tmp_path / "backup")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_home_that_somebody_changed_is_noted(database: str, tmp_path: Path) -> None:
    """What the store holds beyond the last adopted tick is kept, and said."""
    write_state(tmp_path / "home", {"entries": []})
    serve_tick(tmp_path / "home", 0)
    write_state(tmp_path / "home", {"entries": [[0, "legacy"], ["late", "legacy"]]})
    made = switch_backup.make(database, job, "run", tmp_path / "home", tmp_path / "backup")
    assert made.tick == 1 and made.note is not None and "late write" in made.note


def test_a_place_that_cannot_be_written_is_named(database: str, tmp_path: Path) -> None:
    """A file in the way: the check says so beforehand, and the backup itself does too."""
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "backup"
    check = backup_check(folder, tmp_path / "home")
    assert not check.passed and "is no folder" in check.said
    with pytest.raises(ConfigurationError, match="--backup"):
        switch_backup.make(database, job, "run", tmp_path / "home", folder)
    taken = backup_check(tmp_path, tmp_path / "home")
    assert not taken.passed and "exists" in taken.said
    assert backup_check(tmp_path / "new", tmp_path / "home").passed


def test_the_backup_waits_for_a_tick(database: str, tmp_path: Path) -> None:
    """Nobody begins a tick of the old system between the ticks, and it is over when the time is up."""
    with between_ticks():
        with pytest.raises(TickoverError, match=r"has not ended within 0\.2 s"), between_ticks(0.2):
            pass
    with between_ticks(20) as connection:
        assert latest_state("run", job, connection)[0] == 0


@pytest.mark.parametrize(
    ("change", "culprit"),
    [
        ({"write_state": None}, "lacks read_state or write_state"),
        ({"read_state": lambda home: {"entries": "other"}}, "does not give back"),
        ({"write_state": lambda home, state: 1 / 0}, "ZeroDivisionError"),
    ],
)  # fmt: skip
def test_a_state_that_does_not_come_back_bars_the_way(
    database: str, tmp_path: Path, change: dict[str, Any], culprit: str
) -> None:
    """Without a round trip there is no rollback, so no reason outweighs it."""
    check = state_check(dataclasses.replace(job, **change), "run", tmp_path / "none")
    assert not check.passed and not check.may_be_forced and culprit in check.said
    assert state_check(job, "run", tmp_path / "none").passed
