"""Backups of the database: made from one snapshot, restored into an empty database, and proved by a restoration."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import sql

from tickover import __version__
from tickover.errors import ConfigurationError, InfrastructureError
from tickover.ground.postgres import embedded_tools
from tickover.ground.raw import connect_raw, parse_dsn
from tickover.ground.scratch import scratch_database
from tickover.ground.secrets import redact_url

DUMP, MANIFEST = "database.dump", "manifest.json"

_TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1, 2
"""


class BackupUnsound(ConfigurationError):
    """A backup is not what its manifest says, or could not be restored to that."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What a backup holds; immutable. rows: table -> rows in the snapshot. digest: SHA-256 of the dump."""

    made_at: str
    version: str
    schema: str | None
    rows: dict[str, int]
    digest: str

    def to_json(self) -> dict[str, Any]:
        """The manifest as a JSON document."""
        return {name: getattr(self, name) for name in self.__slots__}


def back_up(url: str, folder: Path, *, at_snapshot: Callable[[], None] = lambda: None) -> Manifest:
    """Write the database to a new folder, and return what it holds. Nobody who works in it is disturbed.

    at_snapshot: called once it is fixed what the backup holds, before it is read. The folder appears only when it is
    whole. Raises ConfigurationError if it exists or cannot be made, InfrastructureError if the database cannot be
    dumped.
    """
    if folder.exists():
        raise ConfigurationError(f"{folder} exists; name a new folder for the backup")
    draft = folder.with_name(f"{folder.name}.draft-{uuid.uuid4().hex[:8]}")
    try:
        draft.mkdir(parents=True)
    except OSError as error:
        raise ConfigurationError(
            f"{folder.parent} cannot be written: {error.strerror}; name another folder for the backup"
        ) from error
    try:
        with closing(connect_raw(url, application_name="tickover backup")) as connection:
            connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
            with connection.cursor() as do:
                # The snapshot lives as long as this transaction, and a large database takes a while.
                do.execute("SET LOCAL statement_timeout = 0")
                do.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                do.execute("SELECT pg_export_snapshot()")
                snapshot = str(do.fetchall()[0][0])
                at_snapshot()
                rows, schema = _rows(do), _schema(do)
                _run(
                    "pg_dump", connection.server_version // 10000, url,
                    ["--format=custom", "--no-owner", "--no-privileges", f"--snapshot={snapshot}",
                     f"--file={draft / DUMP}"],
                )  # fmt: skip
        made = Manifest(
            made_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"), version=__version__, schema=schema,
            rows=rows, digest=_digest(draft / DUMP),
        )  # fmt: skip
        (draft / MANIFEST).write_text(json.dumps(made.to_json(), indent=2) + "\n", encoding="utf-8")
        os.replace(draft, folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return made


def read_manifest(folder: Path) -> Manifest:
    """What a backup holds. Raises BackupUnsound if it is none, or its dump is not the one that was written."""
    try:
        found = Manifest(**json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
        digest = _digest(folder / DUMP)
    except (OSError, ValueError, TypeError) as error:
        raise BackupUnsound(f"{folder} is no backup: {error}; `tickover db backup FOLDER` makes one") from error
    if digest != found.digest:
        raise BackupUnsound(f"{folder / DUMP} is not as it was written; use another backup")
    return found


def restore(url: str, folder: Path) -> Manifest:
    """Write a backup into an empty database, all or nothing, and return what it holds.

    Raises ConfigurationError if the database holds tables, BackupUnsound if what is there afterwards is not what the
    manifest says.
    """
    manifest = read_manifest(folder)
    with closing(connect_raw(url, application_name="tickover restore")) as connection, connection.cursor() as do:
        do.execute("SET statement_timeout = 0")
        if _rows(do):
            raise ConfigurationError(
                f"the database {redact_url(url)} holds tables; restore into an empty one: set DATABASE_URL, or "
                "TICKOVER_DATA_DIR to a new folder"
            )
        connection.rollback()
        _run(
            "pg_restore", connection.server_version // 10000, url,
            ["--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges", str(folder / DUMP)],
        )  # fmt: skip
        found = _rows(do)
    if found != manifest.rows:
        wrong = sorted(
            name for name in found.keys() | manifest.rows.keys() if found.get(name) != manifest.rows.get(name)
        )
        raise BackupUnsound(f"{folder} was restored with other rows than it was made of, in {', '.join(wrong)}")
    return manifest


def prove(url: str, folder: Path) -> Manifest:
    """Restore a backup into a database made for it on the same server, compare, and drop that database.

    Raises BackupUnsound, and what `scratch_database` raises.
    """
    with scratch_database(url, "tickover_proof") as made:
        return restore(made, folder)


def _rows(do: Any) -> dict[str, int]:
    do.execute(_TABLES)
    found = {}
    for schema, table in do.fetchall():
        do.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, table)))
        found[f"{schema}.{table}"] = int(do.fetchall()[0][0])
    return found


def _schema(do: Any) -> str | None:
    do.execute("SELECT to_regclass('alembic_version') IS NOT NULL")
    if not do.fetchall()[0][0]:
        return None
    do.execute("SELECT version_num FROM alembic_version")
    return ", ".join(row[0] for row in do.fetchall()) or None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _run(tool: str, server: int, url: str, arguments: list[str]) -> None:
    """Run a PostgreSQL tool on a database. The password goes through the environment: arguments are seen by all."""
    found = parse_dsn(url)
    environment = {**os.environ, "PGPASSWORD": found.pop("password", os.environ.get("PGPASSWORD", ""))}
    name = "--dbname=" + psycopg2.extensions.make_dsn(**found)
    done = subprocess.run(
        [str(_tool(tool, server)), *arguments[:-1], name, arguments[-1]], env=environment, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        said = redact_url(
            done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"status {done.returncode}"
        )
        raise InfrastructureError(f"{tool} failed: {said}")


def _tool(name: str, server: int) -> Path:
    """The tool whose version is the closest that is not older than the server: an older one refuses to work."""
    places = [shutil.which(name), *(str(folder / name) for folder in embedded_tools())]
    known: dict[int, Path] = {}
    for place in places:
        if place is not None and Path(place).exists():
            said = subprocess.run([place, "--version"], capture_output=True, text=True, check=False).stdout
            if match := re.search(r"(\d+)(?:\.\d+|devel|beta\d|rc\d)", said):
                known.setdefault(int(match[1]), Path(place))
    fit = [version for version in known if version >= server]
    if not fit:
        raise InfrastructureError(
            f"there is no {name} of PostgreSQL {server} or later; install the client programs of your server "
            f"(Debian: apt install postgresql-client-{server})"
        )
    return known[min(fit)]
