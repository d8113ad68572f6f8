"""Backups of the database, made and restored with PostgreSQL's own programs."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from tickover.errors import ConfigurationError
from tickover.ground.backup import DUMP, MANIFEST, BackupUnsound, back_up, prove, read_manifest, restore


def _fill(url: str) -> None:
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as do:
        do.execute("INSERT INTO states (run, tick, document) SELECT 'main', n, '{}' FROM generate_series(1, 50) n")


def _databases(url: str) -> set[str]:
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as do:
        do.execute("SELECT datname FROM pg_database")
        return {row[0] for row in do.fetchall()}


def test_a_backup_comes_back_whole(database: str, empty_database: str, tmp_path: Path) -> None:
    """What was in the database at the moment of the backup is in the empty one after restoring, functions too."""
    _fill(database)
    made = back_up(database, tmp_path / "backup")
    _fill_more = made.rows["public.states"]
    assert restore(empty_database, tmp_path / "backup") == made and _fill_more == 50
    with closing(psycopg2.connect(empty_database)) as connection, connection.cursor() as do:
        do.execute("SELECT count(*) FROM states")
        assert do.fetchall() == [(50,)]
        do.execute("SELECT count(*) FROM pg_proc WHERE proname = 'tickover_complete'")
        assert do.fetchall() == [(1,)]


def test_a_proof_restores_and_leaves_nothing(database: str, tmp_path: Path) -> None:
    """A proved backup was restored on the same server, and the database made for that is gone."""
    _fill(database)
    before = _databases(database)
    back_up(database, tmp_path / "backup")
    assert prove(database, tmp_path / "backup").rows["public.states"] == 50
    assert _databases(database) == before


def test_a_backup_that_lost_rows_is_found_out(database: str, tmp_path: Path) -> None:
    """A dump that does not give back the rows that were counted when it was made is unsound."""
    _fill(database)
    back_up(database, tmp_path / "backup")
    manifest = json.loads((tmp_path / "backup" / MANIFEST).read_text())
    manifest["rows"]["public.states"] = 51
    (tmp_path / "backup" / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BackupUnsound, match=r"public\.states"):
        prove(database, tmp_path / "backup")


def test_a_damaged_backup_is_found_out(database: str, tmp_path: Path) -> None:
    """One changed byte of the dump is noticed before anything is restored."""
    back_up(database, tmp_path / "backup")
    dump = tmp_path / "backup" / DUMP
    content = bytearray(dump.read_bytes())
    content[len(content) // 2] ^= 1
    dump.write_bytes(content)
    with pytest.raises(BackupUnsound, match="not as it was written"):
        read_manifest(tmp_path / "backup")


def test_nothing_is_overwritten(database: str, tmp_path: Path) -> None:
    """A backup needs a new folder, and a restoration an empty database."""
    back_up(database, tmp_path / "backup")
    with pytest.raises(ConfigurationError, match="name a new folder"):
        back_up(database, tmp_path / "backup")
    with pytest.raises(ConfigurationError, match="holds tables"):
        restore(database, tmp_path / "backup")
    assert [path.name for path in tmp_path.iterdir()] == ["backup"]
