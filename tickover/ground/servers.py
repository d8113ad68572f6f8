"""Embedded servers: using them, and where they are.

A supervisor process per data directory runs PostgreSQL and Redis. Each process that uses them holds a file lock;
when no lock is left, the supervisor stops the servers and ends. Locks end with their process, so kill -9 of anyone
leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tickover.errors import ConfigurationError, InfrastructureError
from tickover.ground.server_files import Published, ServerFiles, socket_path
from tickover.ground.settings import Settings

logger = logging.getLogger(__name__)

START_TIMEOUT_S = 90.0
# How long the last user waits until the servers have stopped; it takes a fifth of a second.
STOP_TIMEOUT_S = 10.0
_POLL_S = 0.02


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoints:
    """Where the servers are; immutable.

    broker_url: empty where none was asked for and none is set. embedded: Tickover runs at least one of them.
    started: names of those that did not run before.
    """

    database_url: str
    broker_url: str
    redis_url: str | None
    embedded: bool
    started: tuple[str, ...] = ()

    def environment(self) -> dict[str, str]:
        """The endpoints as environment variables for a child process."""
        named = {
            "DATABASE_URL": self.database_url,
            "CELERY_BROKER_URL": self.broker_url,
            "REDIS_URL": self.redis_url,
        }
        return {name: url for name, url in named.items() if url}


@contextlib.contextmanager
def use(settings: Settings, *, broker: bool = True) -> Iterator[Endpoints]:
    """The servers, for as long as the context lasts: those of the settings' URLs, and embedded ones for what has
    none. The last user of these leaves no process behind.

    broker: False where only the database is needed; an embedded broker is then not started. Raises
    ConfigurationError for a data directory that cannot be used, InfrastructureError if a server does not start.
    """
    wants = _wants(settings, broker=broker)
    if not wants:
        yield _endpoints(settings, Published())
        return
    files = ServerFiles(settings.data_dir)
    files.make()
    try:
        with _user(files, wants) as user:
            before = files.read().urls.keys() if files.supervised() else set()
            found = _wait_for(files, user, wants)
            for note in found.notes if not before else ():
                logger.warning(note)
            yield _endpoints(settings, found, wants - before)
    finally:
        _see_off(files)


def running(settings: Settings) -> Endpoints | None:
    """The endpoints if all embedded servers run that the settings want, without starting or holding them; else
    None."""
    files = ServerFiles(settings.data_dir)
    wants = _wants(settings)
    found = files.read() if wants and files.supervised() else Published()
    return _endpoints(settings, found) if wants <= found.urls.keys() else None


def running_database_url(settings: Settings) -> str | None:
    """The URL of the data directory's embedded PostgreSQL if it runs, without starting or holding it; else None."""
    files = ServerFiles(settings.data_dir)
    return files.read().urls.get("postgres") if files.supervised() else None


def processes(settings: Settings) -> dict[str, int]:
    """Process ids of the embedded servers that run, by name (`postgres`, `redis`), and of their `supervisor`."""
    files = ServerFiles(settings.data_dir)
    if not files.supervised():
        return {}
    found = files.read()
    return {"supervisor": found.pid} | {name: found.processes[name][0] for name in found.urls}


def users(settings: Settings) -> list[int]:
    """Process ids of the live users of the embedded servers."""
    files = ServerFiles(settings.data_dir)
    if not files.users.exists():
        return []
    with files.gate():
        return [int(name.partition("-")[0]) for name in files.live_users() if name != files.kept.name]


def keep(settings: Settings) -> Endpoints:
    """Start the servers and have them stay until `release`. Raises what `use` raises."""
    with use(settings) as endpoints:
        if endpoints.embedded:
            files = ServerFiles(settings.data_dir)
            with files.gate():
                files.kept.write_text(" ".join(_wants(settings)))
        return endpoints


def release(settings: Settings, *, force: bool = False, timeout_s: float = 30.0) -> list[int]:
    """Stop keeping the servers; returns the process ids of the users that still hold them (none: they have stopped).

    force: stop them whoever uses them.
    """
    files = ServerFiles(settings.data_dir)
    if not files.users.exists():
        return []
    with files.gate():
        files.kept.unlink(missing_ok=True)
    remaining = users(settings)
    pid = files.read().pid
    if force and pid and files.supervised():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    if not remaining or force:
        deadline = time.monotonic() + timeout_s
        while files.supervised():
            if time.monotonic() > deadline:
                raise InfrastructureError(f"the embedded servers did not stop in {timeout_s:g} s; see {files.log}")
            time.sleep(_POLL_S)
        return []
    return remaining


def _wants(settings: Settings, *, broker: bool = True) -> set[str]:
    wants = set() if settings.database_url else {"postgres"}
    return wants | {"redis"} if broker and not settings.broker else wants


def _endpoints(settings: Settings, found: Published, started: Iterable[str] = ()) -> Endpoints:
    redis_url = found.urls.get("redis")
    broker = settings.broker or (redis_url or "").replace("unix://", "redis+socket://", 1)
    return Endpoints(
        database_url=settings.database_url or found.urls["postgres"],
        broker_url=broker,
        redis_url=settings.redis_url or redis_url,
        embedded=bool(_wants(settings)),
        started=tuple(sorted(started)),
    )


@contextlib.contextmanager
def _user(files: ServerFiles, wants: set[str]) -> Iterator[str]:
    """Be a user, by a locked file; its name."""
    path = files.users / f"{os.getpid()}-{secrets.token_hex(4)}"
    # Behind the gate, or the supervisor might take the file for a dead user's before it is locked.
    with files.gate():
        handle = path.open("w")
        fcntl.flock(handle, fcntl.LOCK_EX)
        handle.write(" ".join(wants))
        handle.flush()
    try:
        yield path.name
    finally:
        path.unlink(missing_ok=True)
        handle.close()


def _see_off(files: ServerFiles) -> None:
    """Wait until the servers have stopped, unless somebody uses them: what comes next may remove their directory."""
    deadline = time.monotonic() + STOP_TIMEOUT_S
    with contextlib.suppress(FileNotFoundError):
        while files.supervised() and time.monotonic() < deadline:
            with files.gate():
                if files.live_users():
                    return
            time.sleep(_POLL_S)


def _wait_for(files: ServerFiles, user: str, wants: set[str]) -> Published:
    """What is published once all that the user wants runs; a supervisor is started whenever there is none."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        if not files.supervised():
            _start_supervisor(files)
        found = files.read()
        if user in found.errors:
            kind, message = found.errors[user]
            raise (ConfigurationError if kind == "configuration" else InfrastructureError)(message)
        if all(name in found.urls and _accepts(found, name) for name in wants):
            return found
        if time.monotonic() > deadline:
            raise InfrastructureError(
                f"the servers of {files.root.parent} were not ready in {START_TIMEOUT_S:g} s; see {files.log}"
            )
        time.sleep(_POLL_S)


def _accepts(published: Published, name: str) -> bool:
    """Whether something listens where the server is said to be: one that was just killed is still published."""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
        try:
            probe.connect(str(socket_path(Path(published.sockets), name)))
        except OSError:
            return False
    return True


def _start_supervisor(files: ServerFiles) -> None:
    with files.gate():
        if files.supervised():
            return
        # URLs of a supervisor that was killed must not be taken for those of the next one.
        left = files.read()
        files.publish(Published(processes=left.processes, sockets=left.sockets))
        path = os.pathsep.join(filter(None, [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH")]))
        with files.log.open("ab") as log:
            done = subprocess.run(
                [sys.executable, "-P", "-m", "tickover.ground.supervisor", str(files.root.parent)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/", check=False,
                env={**os.environ, "PYTHONPATH": path},
            )  # fmt: skip
    if done.returncode != 0:
        end = " ".join(files.log.read_text(errors="replace").strip().splitlines()[-1:])
        raise InfrastructureError(f"the embedded servers' supervisor did not start: {end}; see {files.log}")
