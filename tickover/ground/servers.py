"""Embedded servers: who uses them, and where they are.

A supervisor process per data directory runs PostgreSQL and Redis. Each process that uses them holds a file lock;
when no lock is left, the supervisor stops the servers and ends. Locks end with their process, so kill -9 of anyone
leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tickover.errors import ConfigurationError, InfrastructureError
from tickover.ground.settings import Settings

START_TIMEOUT_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoints:
    """Where the servers are; immutable. embedded: Tickover runs at least one of them."""

    database_url: str
    broker_url: str
    redis_url: str | None
    embedded: bool

    def environment(self) -> dict[str, str]:
        """The endpoints as environment variables for a child process."""
        environment = {"DATABASE_URL": self.database_url, "CELERY_BROKER_URL": self.broker_url}
        if self.redis_url:
            environment["REDIS_URL"] = self.redis_url
        return environment


class ServerFiles:
    """The files by which the processes of a data directory agree."""

    def __init__(self, data_dir: Path) -> None:
        self.root = data_dir.expanduser().absolute() / "servers"
        self.users = self.root / "users"
        self.gate = self.root / "gate.lock"
        self.supervisor_lock = self.root / "supervisor.lock"
        self.endpoints = self.root / "endpoints.json"
        self.failure = self.root / "failure.txt"
        self.log = self.root / "supervisor.log"
        self.kept = self.users / "kept"

    def make(self) -> None:
        """Make the directories. Raises ConfigurationError if that cannot be."""
        try:
            self.users.mkdir(parents=True, exist_ok=True)
            probe = self.root / f".probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ConfigurationError(
                f"the data directory {self.root.parent} cannot be written ({error.strerror}); "
                "set TICKOVER_DATA_DIR to a directory that can"
            ) from error

    def supervised(self) -> bool:
        """Whether a supervisor is alive."""
        return self.supervisor_lock.exists() and not _try_lock_file(self.supervisor_lock)

    def read_endpoints(self) -> Endpoints | None:
        """What the supervisor has published, or None while it is not ready."""
        try:
            return Endpoints(**json.loads(self.endpoints.read_text()))
        except (FileNotFoundError, ValueError):
            return None

    def publish(self, endpoints: Endpoints) -> None:
        """Say where the servers are, all at once."""
        draft = self.endpoints.with_suffix(".new")
        draft.write_text(json.dumps(asdict(endpoints)))
        draft.replace(self.endpoints)

    def live_users(self) -> list[str]:
        """Names of the users that are alive; files of dead ones are removed. Call it behind the gate."""
        alive = []
        for path in sorted(self.users.iterdir()):
            if path == self.kept or not _try_lock_file(path):
                alive.append(path.name)
            else:
                path.unlink(missing_ok=True)
        return alive


def _try_lock_file(path: Path) -> bool:
    """Whether nobody holds the file's lock; it is not kept."""
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextlib.contextmanager
def _gate(files: ServerFiles) -> Iterator[None]:
    with files.gate.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def use(settings: Settings) -> Iterator[Endpoints]:
    """The servers, for as long as the context lasts: those of the settings' URLs, and embedded ones for what has
    none.

    Raises ConfigurationError for a data directory that cannot be used, InfrastructureError if a server does not
    start.
    """
    if settings.database_url and settings.broker:
        yield Endpoints(
            database_url=settings.database_url,
            broker_url=settings.broker,
            redis_url=settings.redis_url,
            embedded=False,
        )
        return
    files = ServerFiles(settings.data_dir)
    files.make()
    user = files.users / f"{os.getpid()}-{secrets.token_hex(4)}"
    with user.open("a") as handle:
        try:
            with _gate(files):
                fcntl.flock(handle, fcntl.LOCK_EX)
                found = _ensure_supervised(files)
            yield _merged(settings, found)
        finally:
            user.unlink(missing_ok=True)


def _merged(settings: Settings, found: Endpoints) -> Endpoints:
    return Endpoints(
        database_url=settings.database_url or found.database_url,
        broker_url=settings.broker or found.broker_url,
        redis_url=settings.redis_url or found.redis_url,
        embedded=True,
    )


def running(settings: Settings) -> Endpoints | None:
    """The endpoints of the data directory's servers if they run, without starting or holding them."""
    files = ServerFiles(settings.data_dir)
    if not files.supervised():
        return None
    found = files.read_endpoints()
    return None if found is None else _merged(settings, found)


def keep(settings: Settings) -> Endpoints:
    """Start the servers and have them stay until `release`."""
    with use(settings) as endpoints:
        if endpoints.embedded:
            ServerFiles(settings.data_dir).kept.touch()
        return endpoints


def release(settings: Settings, timeout_s: float = 20.0) -> list[str]:
    """Stop keeping the servers; returns the users that still hold them (none: they have stopped)."""
    files = ServerFiles(settings.data_dir)
    if not files.users.exists():
        return []
    with _gate(files):
        files.kept.unlink(missing_ok=True)
        users = files.live_users()
    deadline = time.monotonic() + timeout_s
    while not users and files.supervised() and time.monotonic() < deadline:
        time.sleep(0.05)
    return users


def _ensure_supervised(files: ServerFiles) -> Endpoints:
    """The endpoints of a live supervisor, started if there is none. Call it behind the gate, with a user's lock
    held."""
    started: subprocess.Popen[bytes] | None = None
    deadline = time.monotonic() + START_TIMEOUT_S
    while (found := files.read_endpoints()) is None or not files.supervised():
        if started is None and not files.supervised():
            started = _start_supervisor(files)
        elif started is not None and started.poll() is not None:
            reason = files.failure.read_text() if files.failure.exists() else f"see {files.log}"
            raise InfrastructureError(f"the embedded servers of {files.root.parent} did not start: {reason}")
        if time.monotonic() > deadline:
            if started is not None:
                started.send_signal(signal.SIGTERM)
            raise InfrastructureError(
                f"the embedded servers of {files.root.parent} were not ready in {START_TIMEOUT_S:g} s; "
                f"see {files.log}"
            )
        time.sleep(0.02)
    return found


# Supervisors that this process started: they outlive what started them, and are reaped when they end first.
_started: list[subprocess.Popen[bytes]] = []


def _start_supervisor(files: ServerFiles) -> subprocess.Popen[bytes]:
    _started[:] = [process for process in _started if process.poll() is None]
    files.endpoints.unlink(missing_ok=True)
    files.failure.unlink(missing_ok=True)
    path = os.pathsep.join(filter(None, [str(_source_root()), os.environ.get("PYTHONPATH", "")]))
    with files.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tickover.ground.supervisor", str(files.root.parent)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/",
            env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
    _started.append(process)
    return process


def _source_root() -> Path:
    return Path(__file__).resolve().parents[2]
