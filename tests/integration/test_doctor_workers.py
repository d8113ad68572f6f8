"""The doctor on real workers: what it hears from each, and which queues nobody serves."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import clean_environment
from tests.integration.engine_support import StartWorker, until
from tickover.ground.process import ChildProcess
from tickover.ground.settings import reset_settings

SEVEN = "tests.integration.engine_samples:seven"
Celery = Callable[..., ChildProcess]


@pytest.fixture
def celery_worker(database: str, broker: str, tmp_path: Path) -> Iterator[Celery]:
    """Starts `celery -A MODULE worker ARGUMENTS`, waits until it is ready, and ends it with the test."""
    started: list[ChildProcess] = []

    def start(module: str, *arguments: str, **environment: str) -> ChildProcess:
        command = [
            sys.executable, "-m", "celery", "-A", module, "worker", "--loglevel=INFO", "--without-gossip",
            "--without-mingle", f"--hostname=w{len(started)}@here", *arguments,
        ]  # fmt: skip
        own = {"DATABASE_URL": database, "CELERY_BROKER_URL": broker, "TICKOVER_WORKLOAD": SEVEN}
        env = clean_environment(**(own | environment))
        process = ChildProcess(command, env=env, log_path=tmp_path / f"celery-{len(started)}.log")
        started.append(process)
        until(lambda: "ready." in process.log_tail(100_000), 40)
        return process

    yield start
    for process in started:
        process.stop()


@pytest.fixture
def look(orchestrator: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, Any]]:
    """Examines this test's database and broker; findings by name."""
    from async_tick.doctor import examine

    return lambda: {finding.name: finding for finding in examine()}


def test_a_sound_worker_gives_no_alarm(look: Any, start_worker: StartWorker) -> None:
    """A worker as Tickover starts it: no problem and no warning, and each queue has a worker that serves it."""
    start_worker("seven")
    # The sweeper connects a moment after the worker says that it is ready.
    found = until(lambda: (told := look())["workers"].said == "1 answer" and told)
    assert [f"{each.name}: {each.said}" for each in found.values() if each.level != "ok"] == []
    assert "test0@" in found["queue critical"].said and "test0@" in found["queue optional"].said


def test_a_careless_worker_is_told_what_it_does(look: Any, celery_worker: Celery) -> None:
    """One worker with most of what can be wrong: pickle, Celery's own retries, early acknowledgement, a solo pool,
    and only one of two queues."""
    # As root, which tests may be, Celery refuses pickle by itself.
    celery_worker("tests.integration.careless_app", "--pool=solo", "--queues=critical", C_FORCE_ROOT="1")
    found = look()
    assert found["queue critical"].level == "ok"
    assert found["queue optional"].level == "problem"
    assert found["queue optional"].remedy == "start one with `tickover worker --queues=optional`"
    assert found["serialiser of w0@here"].level == "problem" and "pickle" in found["serialiser of w0@here"].said
    assert "task_publish_retry, task_annotations" in found["retries of w0@here"].said
    assert found["acknowledgement of w0@here"].level == "warning"
    assert found["pool of w0@here"].level == "problem" and "solo" in found["pool of w0@here"].said


def test_prefetch_and_limits_of_celerys_own_are_seen(look: Any, celery_worker: Celery) -> None:
    """--prefetch-multiplier=4 and --time-limit=20 of a prefork worker, whose steps may take 90 s."""
    celery_worker("async_tick.celery_app", "--concurrency=2", "--prefetch-multiplier=4", "--time-limit=20")
    found = look()
    assert found["prefetch of w0@here"].said.startswith("it takes 8 hints and works on 2")
    limit = found["time limit of w0@here"]
    assert limit.level == "problem" and "Celery's own limit of 20 s" in limit.said and "95 s" in limit.said


def test_threads_are_a_warning(look: Any, start_worker: StartWorker) -> None:
    """A pool of threads is allowed; the doctor says what its limits cannot do."""
    start_worker("seven", pool="threads")
    (found,) = [finding for name, finding in look().items() if name.startswith("pool of test0@")]
    assert found.level == "warning" and "not interrupted at its limit" in found.said


def test_a_worker_that_runs_something_else_is_a_problem(look: Any, celery_worker: Celery) -> None:
    """Another workload, and another limit of a step: both are named beside what is here."""
    celery_worker("async_tick.celery_app", TICKOVER_WORKLOAD="tests.integration.engine_samples:one_queue")
    celery_worker("async_tick.celery_app", TICKOVER_STEP_TIMEOUTS__ACTION="7")
    found = look()
    other = found["worker w0@here"]
    assert other.level == "problem"
    assert (
        "workload tests.integration.engine_samples:one_queue (here tests.integration.engine_samples:seven)"
        in other.said
    )
    assert "restart it" in other.remedy
    limits = found["worker w1@here"]
    assert limits.level == "problem" and "step limits" in limits.said and "workload" not in limits.said


CHANGING = """
from tickover import Step, Workflow

job = Workflow(name="changing", version="1", steps=[Step(name="one", run=lambda context: 1)])
"""


def test_a_worker_that_runs_older_code_is_a_problem(
    look: Any, celery_worker: Celery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source of a step changes after the worker has started: it goes on with the old one, which is said, although
    the version was forgotten to be raised."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("TICKOVER_WORKLOAD", "changing_job:job")
    reset_settings()
    (tmp_path / "changing_job.py").write_text(CHANGING)
    paths = f"{tmp_path}:{clean_environment()['PYTHONPATH']}"
    celery_worker("async_tick.celery_app", TICKOVER_WORKLOAD="changing_job:job", PYTHONPATH=paths)
    (tmp_path / "changing_job.py").write_text(CHANGING.replace("context: 1", "context: 2"))
    found = look()["worker w0@here"]
    assert found.level == "problem" and "code " in found.said and "version" not in found.said
    assert "restart it" in found.remedy


def test_a_worker_on_another_database_is_a_problem(look: Any, celery_worker: Celery, servers: Any) -> None:
    """It answers at the broker, but is not connected to the database in use: its hints lead nowhere."""
    other = servers.database_url.replace("/tickover?", "/template_tickover?")
    celery_worker("async_tick.celery_app", DATABASE_URL=other)
    found = look()["workers"]
    assert found.level == "problem"
    assert found.said.startswith("1 answer at the broker, 0 are connected to this database")


def test_a_foreign_worker_on_our_queue_is_a_problem(look: Any, celery_worker: Celery) -> None:
    """Another application that consumes `critical` at the same broker takes hints that it does not know."""
    celery_worker("tests.integration.foreign_app", "--pool=solo")
    found = look()
    assert found["worker w0@here"].level == "problem"
    assert "serves critical and is no worker of this version of Tickover" in found["worker w0@here"].said
    assert "workers" in found and "none answers" in found["workers"].said


def test_no_worker_matters_once_the_new_system_is_in_charge(look: Any, database: str) -> None:
    """Without a worker: a warning while the old system is in charge, a problem for each queue after the move."""
    before = look()
    assert before["workers"].level == "warning" and "queue critical" not in before
    from async_tick.route import move, read_route
    from tickover.execution import System

    move(read_route(), System.ASYNC, author="test", reason="test")
    after = look()
    assert after["workers"].level == "problem"
    assert {after["queue critical"].level, after["queue optional"].level} == {"problem"}
