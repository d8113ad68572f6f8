"""The arena: servers, workers and runners of one chaos run, each of which may be killed, paused or cut off.

Everything is private to it: data directories, sockets, ports. Each process reaches PostgreSQL and Redis through
proxies of its own, so that one can be cut off while the others go on.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import redis
from celery import Celery

from async_tick.worker import WorkerProcess, worker_arguments
from shadow.history import Checked, Expected, check
from shadow.ledger import Notebook, read_history, tell_story, watch
from shadow.proxy import Proxy
from tests.chaos import noting_job
from tests.conftest import ROOT, clean_environment
from tickover.ground import migrate
from tickover.ground.database import engine
from tickover.ground.postgres import PostgresServer
from tickover.ground.process import ChildProcess
from tickover.ground.redis_server import RedisServer

WORKLOAD = "tests.chaos.noting_job:job"
# The lease of a step, and how often it is renewed, in seconds: a paused worker becomes a zombie within a round.
LEASE_S, HEARTBEAT_S = 2.0, 0.4
# Executions that the starter keeps in flight.
IN_FLIGHT = 8
STARTER = "direct"


class Member:
    """A worker or runner, and its two lines to the servers."""

    def __init__(self, name: str, postgres_url: str, redis_url: str) -> None:
        self.name = name
        self.lines = {"postgres": Proxy(postgres_url), "redis": Proxy(redis_url)}
        self.process: ChildProcess | None = None
        self.starts = 0

    def alive(self) -> bool:
        """Whether its process runs (or is paused)."""
        return self.process is not None and self.process.alive()

    def signal(self, number: int) -> None:
        """Send a signal to its whole group."""
        if self.alive():
            assert self.process is not None
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """Kill its whole group."""
        if self.process is not None:
            self.process.kill()

    def close(self) -> None:
        """Kill it and give up its lines."""
        self.kill()
        for line in self.lines.values():
            line.close()


class Arena:
    """The servers, `workers` workers (every third one prefork), `loops` loops with a run each, and a starter that
    keeps executions in flight.

    work_s: how long each step works; None for what the job has. workload: what the workers load.
    """

    def __init__(self, root: Path, *, workers: int, loops: int, work_s: float | None, workload: str) -> None:
        self.root, self._work_s, self._workload = root, work_s, workload
        self.notebook = Notebook(root / "notebook")
        self._sockets = Path(tempfile.mkdtemp(prefix="tickover-c-"))
        self._sockets.chmod(0o711)
        self.postgres = PostgresServer(root / "postgres", self._sockets / "postgres")
        self.redis = RedisServer(root, self._sockets / "redis")
        self.servers: dict[str, ChildProcess] = {}
        self.members: dict[str, Member] = {}
        self._workers = [f"worker{number}" for number in range(workers)]
        self._loops = [f"loop{number}" for number in range(loops)]
        self._stop = root / "stop"

    def start(self, *mutants: str) -> None:
        """Start all of it. mutants: statements that change the engine's functions before anything runs."""
        for folder in ("logs", "home"):
            (self.root / folder).mkdir()
        self.servers["postgres"] = self.postgres.start()
        self.servers["redis"] = self.redis.start()
        migrate.upgrade(engine(self.postgres.url()))
        engine(self.postgres.url()).dispose()
        for statement in mutants:
            self.ask(statement)
        # The new system is in charge from the first tick on.
        self.ask("UPDATE route SET owner = 'async', epoch = 2")
        watch(self.postgres.url())
        for name in (*self._workers, *self._loops, STARTER):
            self.members[name] = Member(name, self.postgres.url(), self.redis.url())
        self.revive()
        for name in self._workers:
            worker = self.members[name].process
            assert isinstance(worker, WorkerProcess)
            worker.ready(60)

    def ask(self, statement: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """All rows of a statement, by a way that is never cut."""
        with closing(psycopg2.connect(self.postgres.url())) as connection, connection, connection.cursor() as do:
            do.execute(statement, values or None)
            return list(do.fetchall()) if do.description else []

    def restart(self, name: str) -> None:
        """Start a server that was killed. What Redis had is gone."""
        self.servers[name].kill()
        server = self.postgres if name == "postgres" else self.redis
        self.servers[name] = server.start()

    def wait_for_postgres(self, timeout_s: float = 30.0) -> None:
        """Wait until PostgreSQL answers again, after a recovery of its own."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self.ask("SELECT 1")
                return
            except psycopg2.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)  # a pause between attempts

    def redis_client(self) -> closing[Any]:
        """A client of Redis, by a way that is never cut, to be closed."""
        return closing(redis.Redis(unix_socket_path=str(self._sockets / "redis" / "redis.sock")))

    def revive(self) -> None:
        """Start each worker and runner that has ended, as a service manager would."""
        for member in self.members.values():
            if not member.alive() and not (self._ended(member) and self._stop.exists()):
                member.kill()
                member.starts += 1
                member.process = self._start(member)

    @staticmethod
    def _ended(member: Member) -> bool:
        return member.process is not None and member.process.wait(0) == 0

    def _start(self, member: Member) -> ChildProcess:
        log_path = self.root / "logs" / f"{member.name}-{member.starts}.log"
        redis_url = member.lines["redis"].url
        env = clean_environment(
            DATABASE_URL=member.lines["postgres"].url, CELERY_BROKER_URL=redis_url, REDIS_URL=redis_url,
            TICKOVER_WORKLOAD=self._workload, TICKOVER_LEASE_S=str(LEASE_S), TICKOVER_HEARTBEAT_S=str(HEARTBEAT_S),
            **{noting_job.NOTEBOOK: str(self.notebook.path)},
            **({} if self._work_s is None else {noting_job.WORK: str(self._work_s)}),
        )  # fmt: skip
        if member.name in self._workers:
            pool = "prefork" if self._workers.index(member.name) % 3 == 2 else "threads"
            arguments = worker_arguments(
                pool=pool, concurrency=3, queues=None, name=f"{member.name}-{member.starts}", log_level="INFO"
            )
            # SIGKILL, because a paused process does not end by anything less.
            return WorkerProcess(arguments, env=env, cwd=ROOT, log_path=log_path, death_signal=signal.SIGKILL)
        kind = "starter" if member.name == STARTER else "loop"
        argv = [
            sys.executable, "-m", "tests.chaos.runner_host", kind, member.name, str(self.root / "home" / member.name),
            str(self._stop), str(IN_FLIGHT),
        ]  # fmt: skip
        return ChildProcess(argv, env=env, cwd=ROOT, log_path=log_path, death_signal=signal.SIGKILL)

    def told(self) -> int:
        """How many ticks somebody was told are over."""
        return self.notebook.path.read_bytes().count(b'"kind": "told"') if self.notebook.path.exists() else 0

    def ask_to_stop(self) -> None:
        """Have loops and starter end what they have begun, and begin nothing more."""
        self._stop.touch()

    def runners_ended(self) -> bool:
        """Whether they all have."""
        return all(self._ended(self.members[name]) for name in (*self._loops, STARTER))

    def deaf_workers(self, timeout_s: float) -> list[str]:
        """Workers that run and do not answer within the timeout: such a one would hold its hints for ever."""
        app = Celery(broker=f"redis+socket://{self._sockets}/redis/redis.sock", set_as_current=False)
        deadline = time.monotonic() + timeout_s
        deaf = set(self._workers)
        with closing(app.connection()) as connection:
            while deaf and time.monotonic() < deadline:
                self.revive()
                answers = app.control.ping(timeout=1.0, connection=connection)
                deaf -= {name.partition("-")[0] for answer in answers for name in answer}
        return sorted(deaf)

    def stubborn_workers(self, timeout_s: float) -> list[str]:
        """Workers that do not end within the timeout after they were told to; they write into their logs where they
        stand."""
        told = [(name, self.members[name].process) for name in self._workers if self.members[name].alive()]
        for _, process in told:
            assert process is not None
            process.send(signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        stubborn = []
        for name, process in told:
            if process is not None and process.wait(max(0.0, deadline - time.monotonic())) is None:
                stubborn.append(name)
                # Celery answers with the stacks of all its threads.
                process.send(signal.SIGUSR1)
                process.wait(2)
        return stubborn

    def check(self) -> Checked:
        """What the history checker says of all runs, each with every tick that was begun and none left out."""
        ran = dict(self.ask("SELECT run, max(tick) + 1 FROM workflows GROUP BY run"))
        expected = [
            Expected(
                run=run, ticks=frozenset(range(ran.get(run, 1))), adopted=run != STARTER,
                effects=noting_job.STEP_EFFECTS, receives=lambda kind: True, legacy_notes=True,
            )
            for run in (*self._loops, STARTER)
        ]  # fmt: skip
        return check(read_history(self.postgres.url(), [self.notebook]), expected)

    def stories(self, checked: Checked, most: int = 5) -> str:
        """What the ledger has of the first ticks with a violation."""
        culprits = dict.fromkeys((each.run, each.tick) for each in checked.violations)
        told = [
            f"--- tick {tick} of {run}\n" + "\n".join(tell_story(self.postgres.url(), run, tick))
            for run, tick in list(culprits)[:most]
        ]
        return "\n".join(told)

    def logs(self) -> dict[str, str]:
        """The end of each log."""
        return {
            path.stem: path.read_text(encoding="utf-8", errors="replace")[-6000:]
            for path in sorted((self.root / "logs").iterdir())
        }

    def close(self) -> None:
        """End everything, and remove what the servers had."""
        for member in self.members.values():
            member.close()
        for name, server in (("redis", self.redis), ("postgres", self.postgres)):
            if name in self.servers:
                child = self.servers[name]
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGCONT)
                child.stop(20, first=server.stop_signal)
        shutil.rmtree(self._sockets, ignore_errors=True)


@contextlib.contextmanager
def arena(
    *mutants: str, workers: int, loops: int, work_s: float | None = None, workload: str = WORKLOAD
) -> Iterator[Arena]:
    """An arena that runs, and is ended and removed afterwards."""
    root = Path(tempfile.mkdtemp(prefix="tickover-chaos-"))
    # PostgreSQL may run as another user than this.
    root.chmod(0o711)
    made = Arena(root, workers=workers, loops=loops, work_s=work_s, workload=workload)
    try:
        made.start(*mutants)
        yield made
    finally:
        made.close()
        shutil.rmtree(root, ignore_errors=True)
