"""Workers as child processes: what commands, runs and tests start when none is there."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from async_tick.connection import Connection
from tickover.errors import InfrastructureError
from tickover.ground.process import ChildProcess

_WORKERS = """
SELECT count(DISTINCT pid) FROM pg_stat_activity
WHERE application_name = 'tickover sweeper' AND datname = current_database()
"""


def live_workers() -> int:
    """How many workers are connected to the database in use."""
    return int(Connection("tickover status").rows(_WORKERS)[0][0])


def worker_arguments(*, pool: str, concurrency: int, queues: str | None, name: str, log_level: str) -> list[str]:
    """The command line of a Celery worker, as one would type it."""
    arguments = [
        sys.executable, "-m", "celery", "-A", "async_tick.celery_app", "worker", f"--loglevel={log_level}",
        f"--concurrency={concurrency}", f"--pool={pool}", f"--hostname={name}@%h", "--without-gossip",
        "--without-mingle",
    ]  # fmt: skip
    return [*arguments, f"--queues={queues}"] if queues else arguments


class WorkerProcess(ChildProcess):
    """A Celery worker in a process group of its own."""

    def ready(self, timeout_s: float = 30.0) -> None:
        """Wait until it takes work. Raises InfrastructureError with the end of its log."""
        self.wait_ready(lambda: "ready." in self.log_tail(100_000), timeout_s)


def start_worker(
    *, log_path: Path, pool: str = "prefork", concurrency: int = 4, queues: str | None = None, name: str = "tickover",
    env: Mapping[str, str] | None = None,
) -> WorkerProcess:  # fmt: skip
    """Start a worker; call `.ready()` to wait for it, `.stop()` to end it. `env` needs the URLs of the servers."""
    if log_path.exists():
        raise InfrastructureError(
            f"{log_path} exists; a worker's log must be its own, for its readiness is read there"
        )
    arguments = worker_arguments(pool=pool, concurrency=concurrency, queues=queues, name=name, log_level="INFO")
    return WorkerProcess(arguments, env=env, log_path=log_path)
