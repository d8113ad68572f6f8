"""The private ground of a drill: servers, workers and runners of its own, which it may kill and restart.

Nothing here is shared with the servers in use: a drill breaks only what it has started itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from async_tick.worker import WorkerProcess, worker_arguments
from tickover.errors import InfrastructureError
from tickover.execution import System
from tickover.ground import migrate
from tickover.ground.database import engine
from tickover.ground.postgres import PostgresServer
from tickover.ground.process import ChildProcess
from tickover.ground.redis_server import RedisServer

# One that is struck and one that takes over, and the threads of each: as many as a tick has parallel steps.
WORKERS, THREADS = 2, 4
# The lease of a worker in a drill, and its heartbeat, in seconds: a paused worker's step is taken over in this time
# instead of the half minute that is the default. The difference is added to what a trial took. It is longer than a
# restart of PostgreSQL, which must not cost a worker its steps.
LEASE_S, HEARTBEAT_S = 6.0, 1.0
_ROOT = Path(__file__).resolve().parents[1]


class Runner:
    """A process from which one system's ticks are started."""

    def __init__(self, job: Mapping[str, Any], env: Mapping[str, str], log_path: Path) -> None:
        self.job, self.log_path = dict(job), log_path
        path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "shadow.drill_host"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=log, text=True, start_new_session=True, env={**os.environ, **env, "PYTHONPATH": path},
            )  # fmt: skip
        self._answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._read, name="tickover-drill-answers", daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def send(self, job: Mapping[str, Any]) -> None:
        """Give it a job. Raises InfrastructureError if it has ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({**self.job, **job}) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise InfrastructureError(f"a drill's runner has ended; see {self.log_path}") from error

    def answer(self, timeout_s: float) -> dict[str, Any] | None:
        """Its next answer; None if there is none within the timeout."""
        try:
            return self._answers.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def close(self) -> None:
        """End it, and what it started."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._answers.put(json.loads(line))


class Ground:
    """Servers, workers and runners of one drill, under `root`."""

    def __init__(self, root: Path, workload: str, time_scale: float, env: Mapping[str, str]) -> None:
        self.root, self.workload, self.time_scale = root, workload, time_scale
        self._env = dict(env)
        self._sockets = Path(tempfile.mkdtemp(prefix="tickover-drill-", dir="/tmp"))
        self._sockets.chmod(0o711)
        self._postgres = PostgresServer(root / "postgres", self._sockets / "postgres")
        self._redis = RedisServer(root, self._sockets / "redis")
        self._children: dict[str, ChildProcess] = {}
        self._workers: list[WorkerProcess] = []
        self._runners: dict[System, Runner] = {}
        self._number = 0

    @property
    def database_url(self) -> str:
        """Where its PostgreSQL is."""
        return self._postgres.url()

    def environment(self) -> dict[str, str]:
        """The environment of its workers and runners."""
        redis = self._redis.url().replace("unix://", "redis+socket://", 1)
        return {
            **self._env, "DATABASE_URL": self.database_url, "CELERY_BROKER_URL": redis,
            "REDIS_URL": self._redis.url(), "TICKOVER_WORKLOAD": self.workload, "TICKOVER_LEASE_S": str(LEASE_S),
            "TICKOVER_HEARTBEAT_S": str(HEARTBEAT_S),
        }  # fmt: skip

    def start(self) -> None:
        """Start the servers, on a schema of their own. Raises InfrastructureError."""
        (self.root / "logs").mkdir(parents=True, exist_ok=True)
        self._children["postgres"] = self._postgres.start()
        migrate.upgrade(engine(self.database_url))
        self._children["redis"] = self._redis.start()

    def ready(self) -> None:
        """Have both servers, all workers and both runners alive, whatever the last trial did to them."""
        for name, server in (("postgres", self._postgres), ("redis", self._redis)):
            if not self._children[name].alive():
                self._children[name].kill()
                self._children[name] = server.start()
        for worker in [worker for worker in self._workers if not worker.alive()]:
            worker.kill()
            self._workers.remove(worker)
        new = [self._start_worker() for _ in range(WORKERS - len(self._workers))]
        self._workers += new
        for worker in new:
            worker.ready(60)
        for system in System:
            self.runner(system)

    def runner(self, system: System) -> Runner:
        """The runner of a system; a new one if it has ended."""
        found = self._runners.get(system)
        if found is None or not found.alive():
            if found is not None:
                found.close()
            job = {
                "system": system.value, "workload": self.workload, "time_scale": self.time_scale,
                "home": str(self.root / "home"),
            }  # fmt: skip
            log_path = self.root / "logs" / f"runner-{system.value}.log"
            found = self._runners[system] = Runner(job, self.environment(), log_path)
        return found

    def restart(self, name: str, when_down: Callable[[], None]) -> None:
        """Stop a server as a crash would and start it again. when_down: called while it is away."""
        child = self._children[name]
        if name == "postgres":
            # Immediate shutdown: no session ends in order, and the start goes through recovery.
            child.stop(10, first=signal.SIGQUIT)
        else:
            child.kill()
        when_down()
        server = self._postgres if name == "postgres" else self._redis
        self._children[name] = server.start()

    @contextlib.contextmanager
    def used(self) -> Iterator[Ground]:
        """The ground, started; stopped and cleared away afterwards, its logs kept."""
        try:
            self.start()
            yield self
        finally:
            self.close()

    def close(self) -> None:
        """Stop everything, and remove the data."""
        for runner in self._runners.values():
            runner.close()
        for worker in self._workers:
            worker.send(signal.SIGCONT)
            worker.kill()
        engine(self.database_url).dispose()
        for name, server in (("redis", self._redis), ("postgres", self._postgres)):
            if name in self._children:
                self._children[name].stop(20, first=server.stop_signal)
        shutil.rmtree(self._sockets, ignore_errors=True)
        for name in ("postgres", "home"):
            shutil.rmtree(self.root / name, ignore_errors=True)

    def _start_worker(self) -> WorkerProcess:
        self._number += 1
        name = f"drill-{os.getpid()}-{self._number}"
        log_path = self.root / "logs" / f"worker-{name}.log"
        arguments = worker_arguments(
            pool="threads", concurrency=THREADS, queues=None, name=name, log_level="INFO"
        )  # fmt: skip
        # SIGKILL also ends one that is stopped when the drill is killed.
        return WorkerProcess(arguments, env=self.environment(), log_path=log_path, death_signal=signal.SIGKILL)
