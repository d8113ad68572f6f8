"""The supervisor of a data directory's embedded servers: `python -m tickover.ground.supervisor DATA_DIR`.

It starts what the live users want, starts it again when it dies, and ends with the last user. If it is killed, its
servers end too, or are ended by the next supervisor.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Protocol

import psutil

from tickover.errors import ConfigurationError, TickoverError
from tickover.ground.postgres import PostgresServer
from tickover.ground.process import ChildProcess
from tickover.ground.redis_server import RedisServer
from tickover.ground.server_files import Published, ServerFiles

logger = logging.getLogger("tickover.ground.supervisor")

# How often the users are counted: a server outlives its last user by about this, and a dead one is noticed in it.
WATCH_S = 0.2
# A server that dies more often than this within a minute is broken and left alone until a new user asks for it.
RESTARTS_PER_MINUTE = 5
STOP_TIMEOUT_S = 20.0
# Longest directory whose sockets' paths still fit into the 104 bytes that macOS allows (Linux: 108).
_SOCKET_DIR_MAX = 70


class Server(Protocol):
    """A server that the supervisor can run."""

    name: str
    stop_signal: signal.Signals
    notes: list[str]

    def start(self) -> ChildProcess:
        """Start it and wait until it answers."""

    def url(self) -> str:
        """Where it answers."""


class Supervisor:
    """Runs the servers of one data directory until nobody uses them."""

    def __init__(self, files: ServerFiles) -> None:
        self.files = files
        # Set to end whoever uses the servers.
        self.done = threading.Event()
        self._servers: dict[str, Server] = {}
        self._children: dict[str, ChildProcess] = {}
        self._errors: dict[str, tuple[str, str]] = {}
        self._deaths: dict[str, list[float]] = {}
        self._sockets = Path()

    def run(self) -> None:
        """Serve the users, and stop the servers with the last."""
        _end_orphans(self.files.read())
        self._sockets = _socket_directory()
        self._servers = {
            "postgres": PostgresServer(self.files.root / "postgres", self._sockets / "postgres"),
            "redis": RedisServer(self.files.root, self._sockets / "redis"),
        }
        try:
            self._publish()
            while self._serve_users():
                self.done.wait(WATCH_S)
        finally:
            self._withdraw()
            for name in reversed(list(self._children)):
                child = self._children.pop(name)
                child.stop(STOP_TIMEOUT_S, first=self._servers[name].stop_signal)
            shutil.rmtree(self._sockets, ignore_errors=True)
            self.files.published.unlink(missing_ok=True)

    def _serve_users(self) -> bool:
        """Start what is wanted and does not run; whether to go on."""
        if self.done.is_set():
            return False
        with self.files.gate():
            users = self.files.live_users()
            if not users:
                # Behind the gate nobody can join, so whoever comes next sees that nothing is published.
                self._withdraw()
                return False
        self._errors = {user: error for user, error in self._errors.items() if user in users}
        for name, child in list(self._children.items()):
            if not child.alive():
                self._bury(name, users)
        for name in self._servers:
            wanting = [user for user, wants in users.items() if name in wants and user not in self._errors]
            if wanting and name not in self._children:
                self._start(name, wanting)
        return True

    def _start(self, name: str, wanting: list[str]) -> None:
        try:
            self._children[name] = self._servers[name].start()
            logger.info("%s runs as process %d", name, self._children[name].pid)
        except TickoverError as error:
            kind = "configuration" if isinstance(error, ConfigurationError) else "infrastructure"
            self._errors.update({user: (kind, str(error)) for user in wanting})
            logger.error("%s did not start: %s", name, error)
        except OSError as error:
            self._errors.update(dict.fromkeys(wanting, ("infrastructure", f"{name} did not start: {error}")))
            logger.exception("%s did not start", name)
        self._publish()

    def _bury(self, name: str, users: dict[str, set[str]]) -> None:
        child = self._children.pop(name)
        child.kill()
        now = time.monotonic()
        self._deaths[name] = [then for then in self._deaths.get(name, []) if now - then < 60] + [now]
        logger.warning("%s has died; the end of its log: %s", name, child.log_tail(500))
        if len(self._deaths[name]) > RESTARTS_PER_MINUTE:
            message = f"{name} keeps dying; see {child.log_path}"
            self._errors.update({user: ("infrastructure", message) for user, wants in users.items() if name in wants})
        self._publish()

    def _publish(self) -> None:
        running = self._children.items()
        self.files.publish(
            Published(
                pid=os.getpid(),
                urls={name: self._servers[name].url() for name, _ in running},
                processes={name: (child.pid, _created(child.pid)) for name, child in running},
                errors=self._errors,
                notes=[note for server in self._servers.values() for note in server.notes],
                sockets=str(self._sockets),
            )
        )

    def _withdraw(self) -> None:
        # The processes stay on record until they have ended, for a successor to end them if this one is killed now.
        found = self.files.read()
        self.files.publish(Published(pid=found.pid, processes=found.processes, sockets=found.sockets))


def _created(pid: int) -> float:
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return 0.0


def _end_orphans(left: Published) -> None:
    """End the servers that a killed supervisor left, where the kernel has not, and remove their sockets."""
    orphans = []
    for name, (pid, created) in left.processes.items():
        try:
            process = psutil.Process(pid)
            if process.create_time() != created:
                continue
            logger.warning("ending %s, process %d, left by a killed supervisor", name, pid)
            process.send_signal(signal.SIGINT if name == "postgres" else signal.SIGTERM)
        except psutil.NoSuchProcess:
            continue
        orphans.append(process)
    _, stubborn = psutil.wait_procs(orphans, timeout=STOP_TIMEOUT_S)
    for process in stubborn:
        process.kill()
    if left.sockets and Path(left.sockets).name.startswith("tickover-"):
        shutil.rmtree(left.sockets, ignore_errors=True)


def _socket_directory() -> Path:
    """A new, short directory: the path of a unix socket may have some 100 bytes, and a data directory's is longer."""
    base = tempfile.gettempdir()
    made = Path(tempfile.mkdtemp(prefix="tickover-", dir=base if len(base) <= _SOCKET_DIR_MAX else "/tmp"))
    # PostgreSQL may run as another user than this: it passes through, and each server's own directory is closed.
    made.chmod(0o711)
    return made


def _take(lock: int, timeout_s: float = 1.0) -> bool:
    # Whoever asks whether a supervisor is alive holds a shared lock for an instant; that is none.
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.005)
        else:
            return True
    return False


def main(arguments: list[str]) -> int:
    """Leave a supervisor of the data directory (the one argument) running in the background, and return."""
    files = ServerFiles(Path(arguments[0]))
    lock = os.open(files.supervisor_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not _take(lock):
        # There is one already.
        return 0
    # The supervisor must be nobody's child: not waited for, and not ended with whoever started it. It has the lock
    # already when this process ends, so that no moment looks as if it had died.
    if os.fork():
        os._exit(0)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    supervisor = Supervisor(files)

    def end(*_: Any) -> None:
        supervisor.done.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end)
    supervisor.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
