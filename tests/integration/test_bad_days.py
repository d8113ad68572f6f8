"""Days on which broker, database, workers or messages are not what they should be."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import kombu
import psycopg2
import pytest
import redis

from tests.integration import engine_samples
from tests.integration.engine_support import StartWorker, key, until
from tests.integration.modules import imported_anew
from tickover.ground import migrate
from tickover.ground.database import engine
from tickover.ground.process import ChildProcess
from tickover.ground.redis_server import RedisServer
from tickover.ground.servers import Endpoints


class Broker:
    """A Redis of a test's own, which may be killed and started again at the same place."""

    def __init__(self, home: Path) -> None:
        self._server = RedisServer(home, home / "sockets")
        self.process: ChildProcess = self._server.start()
        self.url = f"redis+socket://{home / 'sockets' / 'redis.sock'}"

    def kill(self) -> None:
        """End it at once; what it held is gone."""
        self.process.kill()

    def start(self) -> None:
        """Start it again, empty."""
        self.process = self._server.start()


@pytest.fixture
def own_broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    """A broker of the test's own, which is also CELERY_BROKER_URL."""
    with tempfile.TemporaryDirectory(prefix="tickover-broker-") as home:
        found = Broker(Path(home))
        monkeypatch.setenv("CELERY_BROKER_URL", found.url)
        yield found
        found.process.stop()


def test_a_broker_that_goes_away_and_returns_delays_ticks_and_loses_none(
    own_broker: Broker, database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Killed while ticks run, started empty after more were begun: each tick ends, and each step ran once."""
    from tickover.ground.settings import reset_settings

    monkeypatch.setenv("TICKOVER_WORKLOAD", "tests.integration.engine_samples:waiting")
    reset_settings()
    given = {"folder": str(tmp_path), "ledger": str(tmp_path / "ledger")}
    urls = {"DATABASE_URL": database, "CELERY_BROKER_URL": own_broker.url}
    with imported_anew("async_tick"):
        from async_tick import orchestrator, worker
        from async_tick.listener import listener

        try:
            # A broker that is gone may end a worker (its acknowledgement raises): who runs workers starts another.
            with worker.keep_worker(tmp_path / "logs", threads=2, name="away", env=urls):
                _broker_leaves_and_returns(orchestrator, own_broker, given, tmp_path)
        finally:
            listener().stop()
    lines = sorted((tmp_path / "ledger").read_text().splitlines())
    assert lines == sorted(["waits 1 begin", "ends 1 begin"] * 2)


def _broker_leaves_and_returns(
    orchestrator: ModuleType, own_broker: Broker, given: dict[str, str], tmp_path: Path
) -> None:
    orchestrator.start(key(0), engine_samples.waiting, state={}, input=given)
    until((tmp_path / "0-begun").exists)
    own_broker.kill()
    # The hint cannot be sent; the start stands all the same.
    assert orchestrator.start(key(1), engine_samples.waiting, state={}, input=given)
    (tmp_path / "leave").touch()
    own_broker.start()
    for tick in (0, 1):
        assert orchestrator.wait(str(key(tick)), 60).status == "done"


def test_a_connection_cut_at_the_commit_costs_nothing(
    orchestrator: ModuleType, start_worker: StartWorker, database: str, tmp_path: Path
) -> None:
    """The worker's session is ended under a step: it connects again and commits, once, at the first attempt."""
    start_worker("waiting")
    given = {"folder": str(tmp_path), "ledger": str(tmp_path / "ledger")}
    orchestrator.start(key(), engine_samples.waiting, state={}, input=given)
    until((tmp_path / "0-begun").exists)
    with contextlib.closing(psycopg2.connect(database)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE application_name = 'tickover worker' AND datname = current_database()"
        )
        assert cursor.fetchall()[0][0] >= 1
    (tmp_path / "leave").touch()
    ended = orchestrator.wait(str(key()), 40)
    assert ended.status == "done"
    assert (ended.steps["waits"].attempts, ended.steps["waits"].recoveries) == (1, 0)
    assert [effect.step for effect in ended.effects] == ["waits", "ends"]


def test_a_completion_whose_answer_was_lost_is_not_made_twice(orchestrator: ModuleType) -> None:
    """The commit arrived and its answer did not: what is read by token says so, and nothing is done again."""
    from async_tick import sql
    from async_tick.claims import Claims
    from async_tick.connection import Connection

    class LosesAnswers(Connection):
        """Sends a completion, and loses the connection before its answer."""

        lost = 0

        def rows(self, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
            found = super().rows(statement, values)
            if statement == sql.COMPLETE and not self.lost:
                self.lost += 1
                self.drop()
                raise psycopg2.OperationalError("server closed the connection unexpectedly")
            return found

    connection = LosesAnswers("test")
    claims = Claims(connection, 1, 30)
    orchestrator.start(key(), engine_samples.seven, state={})
    claim = claims.claim(str(key()), "monologue", 60)
    assert claim is not None
    done = claims.complete(claim, "done", result='"once"')
    assert connection.lost == 1 and not done.ready and done.next is None
    assert connection.rows("SELECT state FROM workflow_checkpoints") == [('"once"',)]


def test_two_workers_and_many_hints_run_a_step_once(
    orchestrator: ModuleType, start_worker: StartWorker, broker: str, tmp_path: Path
) -> None:
    """Twenty hints for one step, two workers: one claim, one run."""
    orchestrator.start(key(), engine_samples.seven, state={}, input={"ledger": str(tmp_path / "ledger")})
    from async_tick.celery_app import app
    from async_tick.tasks import send_hint

    for _ in range(20):
        assert send_hint(app, "seven.monologue", str(key()), "critical")
    start_worker("seven")
    start_worker("seven")
    assert orchestrator.wait(str(key()), 40).status == "done"
    lines = (tmp_path / "ledger").read_text().splitlines()
    assert sorted(lines) == sorted(f"{step} 1 begin" for step in engine_samples.seven.order)


class Planted:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_a_pickled_message_is_refused_and_harms_nothing(
    orchestrator: ModuleType, start_worker: StartWorker, broker: str, tmp_path: Path
) -> None:
    """Only JSON is accepted: a pickle is never opened, and the worker goes on with its work."""
    worker = start_worker("seven")
    with kombu.Connection(broker) as connection:
        connection.Producer().publish(
            pickle.dumps(Planted(tmp_path / "opened")), routing_key="critical", exchange="",
            content_type="application/x-python-serialize", content_encoding="binary",
            headers={"id": "1", "task": "seven.monologue"},
        )  # fmt: skip
    until(lambda: "untrusted content" in worker.log_tail(200_000) or "ContentDisallowed" in worker.log_tail(200_000))
    assert orchestrator.execute(key(), engine_samples.seven, state={}, timeout_s=40).status == "done"
    assert not (tmp_path / "opened").exists()


def test_a_result_over_the_limit_fails_its_step(orchestrator: ModuleType, start_worker: StartWorker) -> None:
    """What is too large is not stored, and the error says how large it was and what is allowed."""
    start_worker("seven", TICKOVER_MAX_RESULT_BYTES="500")
    ended = orchestrator.execute(key(), engine_samples.seven, state={}, timeout_s=40)
    assert ended.status == "failed"
    assert "ResultTooLarge" in str(ended.error) and "500" in str(ended.error)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_step_that_ignores_its_limit_does_not_hold_up_its_tick(
    orchestrator: ModuleType, start_worker: StartWorker, pool: str
) -> None:
    """At the hard limit the token is revoked and what executes the step is ended or left: the tick goes on."""
    start_worker("stubborn", pool=pool)
    ended = orchestrator.execute(key(), engine_samples.stubborn, state={}, timeout_s=40)
    assert ended.status == "done"
    assert ended.steps["hangs"].status == "failed" and "StepTimeout" in str(ended.steps["hangs"].error)
    assert "absent result of hangs" in ended.steps["after"].result["hangs"]


def test_a_process_with_many_abandoned_threads_is_ended(orchestrator: ModuleType, start_worker: StartWorker) -> None:
    """Eight threads that never came back: the process ends, for whoever watches it to start a new one."""
    worker = start_worker("stubborn", pool="threads", concurrency=8)
    for tick in range(8):
        orchestrator.start(key(tick), engine_samples.stubborn, state={})
    until(lambda: not worker.alive(), 40)
    assert worker.stop() == 70
    start_worker("stubborn", pool="threads", concurrency=2)
    for tick in range(8):
        ended = orchestrator.wait(str(key(tick)), 40)
        # The limit was the end of an attempt, not the loss of a worker.
        assert (ended.status, ended.steps["hangs"].status, ended.steps["hangs"].recoveries) == ("done", "failed", 0)


def test_a_new_worker_hears_at_once_of_what_waits(
    orchestrator: ModuleType, start_worker: StartWorker, database: str, servers: Endpoints
) -> None:
    """Hints were lost again and again, so that the next one is far away; a worker that comes does not wait for it."""
    orchestrator.start(key(), engine_samples.seven, state={})
    with closing(redis.Redis.from_url(servers.redis_url)) as client:
        client.flushall()
    with closing(psycopg2.connect(database)) as connection, connection, connection.cursor() as do:
        do.execute("UPDATE step_runs SET hints = 9, hint_due = now() + interval '1 hour' WHERE status = 'ready'")
    start_worker("seven")
    assert orchestrator.wait(str(key()), 60).status == "done"


def test_a_paused_worker_is_fenced(orchestrator: ModuleType, start_worker: StartWorker, tmp_path: Path) -> None:
    """Stopped under a step and let go after another took it over: what it computed is refused."""
    paused = start_worker("waiting", concurrency=1, TICKOVER_LEASE_S="1", TICKOVER_HEARTBEAT_S="0.2")
    given = {"folder": str(tmp_path), "ledger": str(tmp_path / "ledger")}
    orchestrator.start(key(), engine_samples.waiting, state={}, input=given)
    until((tmp_path / "0-begun").exists)
    os.killpg(paused.pid, signal.SIGSTOP)
    try:
        (tmp_path / "leave").touch()
        start_worker("waiting", concurrency=1, TICKOVER_LEASE_S="1", TICKOVER_HEARTBEAT_S="0.2")
        ended = orchestrator.wait(str(key()), 40)
    finally:
        os.killpg(paused.pid, signal.SIGCONT)
    until(lambda: (tmp_path / "ledger").read_text().count("waits 1 begin") == 2)
    assert ended.steps["waits"].recoveries == 1
    again = orchestrator.outcome(str(key()))
    assert again == ended and [effect.step for effect in again.effects] == ["waits", "ends"]


def test_a_database_that_is_too_old_is_refused(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's version and the one that is needed are named."""
    monkeypatch.setattr(migrate, "MINIMUM_VERSION", 99)
    with pytest.raises(migrate.DatabaseTooOld, match="too old; Tickover needs 99"):
        migrate.require_current(engine(database))


def test_a_worker_refuses_a_schema_that_is_not_its_own(empty_database: str, broker: str, tmp_path: Path) -> None:
    """Pending migrations: the worker ends and its log names the command."""
    from async_tick.worker import start_worker

    process = start_worker(
        log_path=tmp_path / "worker.log", concurrency=1,
        env={"DATABASE_URL": empty_database, "CELERY_BROKER_URL": broker,
             "TICKOVER_WORKLOAD": "tests.integration.engine_samples:seven"},
    )  # fmt: skip
    until(lambda: not process.alive(), 30)
    assert process.stop() == 2
    assert "tickover db upgrade" in process.log_tail(20_000)


def test_a_queue_can_be_emptied_without_loss(
    orchestrator: ModuleType, start_worker: StartWorker, servers: Any
) -> None:
    """Redis loses everything between two steps: the sweeper sends the hint again."""
    for tick in range(3):
        orchestrator.start(key(tick), engine_samples.seven, state={})
    with contextlib.closing(redis.Redis.from_url(servers.redis_url)) as client:
        client.flushall()
    start_worker("seven")
    for tick in range(3):
        assert orchestrator.wait(str(key(tick)), 40).status == "done"
