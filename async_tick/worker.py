"""Workers as child processes: what commands, runs and tests start when none is there."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from async_tick.connection import LOST, Connection
from tickover.errors import ExitCode, InfrastructureError
from tickover.ground.process import ChildProcess

log = logging.getLogger(__name__)

# How often whoever needs a worker looks whether there is one, in seconds of real time.
LOOK_S = 1.0

_WORKERS = """
SELECT count(DISTINCT pid) FROM pg_stat_activity
WHERE application_name = 'tickover sweeper' AND datname = current_database()
"""


_connection = Connection("tickover status")


def live_workers() -> int:
    """How many workers are connected to the database in use."""
    return int(_connection.rows(_WORKERS)[0][0])


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


# A worker that is started again waits so long, in seconds; twice as long each time it lived for less than that.
RESTART_S, RESTART_MAX_S = 1.0, 30.0


def run_worker(arguments: list[str], say: Callable[[str], None]) -> int:
    """Run a worker in the foreground until it is told to end, and return its exit code.

    One that ends by itself is started again: a broker that refuses writes, or too many threads that never came back,
    end a worker, and the work goes on with the next one. What is wrong with settings or schema ends it for good.
    SIGTERM and SIGINT are passed on, so that running steps end first; a second SIGINT ends it at once.
    """
    told = threading.Event()
    child: list[WorkerProcess] = []

    def pass_on(number: int, _: object) -> None:
        told.set()
        for process in child[-1:]:
            process.send(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    pause_s = RESTART_S
    try:
        while True:
            begun = time.monotonic()
            child.append(WorkerProcess(arguments, shows_output=True))
            code: int | None = None
            while code is None:
                code = child[-1].wait(LOOK_S)
            child[-1].kill()
            if told.is_set() or code in (ExitCode.OK, ExitCode.USAGE):
                return max(code, 0)
            pause_s = RESTART_S if time.monotonic() - begun > 2 * pause_s else min(2 * pause_s, RESTART_MAX_S)
            say(f"the worker ended with {code}; another one is started in {pause_s:g} s")
            if told.wait(pause_s):
                return max(code, 0)
    finally:
        for process in child[-1:]:
            process.stop()
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def keep_worker(
    logs: Path, *, threads: int, name: str, env: Mapping[str, str] | None = None,
    say: Callable[[str], None] = lambda text: None, waits: bool = True,
) -> Iterator[None]:  # fmt: skip
    """See to it that a worker is there as long as the context lasts: one is started where none is, and again if it
    ends. What was started is stopped. logs: folder of its logs. waits: False to begin without it. Raises
    InfrastructureError if none comes up at first."""
    over = threading.Event()
    own: list[WorkerProcess] = []
    numbers = itertools.count(1)

    def ensure() -> None:
        if (own and own[-1].alive()) or live_workers() > 0:
            return
        number = next(numbers)
        log_path = logs / f"worker-{name}-{os.getpid()}-{number}.log"
        # Steps wait on the network: threads of one process do that in a third of the memory of processes.
        own.append(start_worker(
            log_path=log_path, pool="threads", concurrency=threads, name=f"{name}-{os.getpid()}-{number}", env=env
        ))  # fmt: skip
        own[-1].ready()
        say(f"no worker was there: started one ({threads} threads, log in {log_path})")

    def watch() -> None:
        pause_s = LOOK_S if waits else 0.0
        while not over.wait(pause_s):
            pause_s = LOOK_S
            try:
                ensure()
            except (*LOST, InfrastructureError) as error:
                log.warning("worker.missing", extra={"reason": str(error)})

    watcher = threading.Thread(target=watch, name="tickover-worker-keeper", daemon=True)
    try:
        if waits:
            ensure()
        watcher.start()
        yield
    finally:
        over.set()
        if watcher.is_alive():
            watcher.join()
        for process in own:
            process.stop()
