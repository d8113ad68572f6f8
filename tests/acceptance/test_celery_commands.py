"""The usual Celery commands, as people type them, on Tickover's application."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, clean_environment

SEVEN = ("monologue", "goal_selection", "action", "curiosity", "beliefs", "social", "meta")


@pytest.fixture
def environment(database: str, broker: str) -> dict[str, str]:
    """A database and a broker by their URLs, as in a usual deployment."""
    return clean_environment(
        DATABASE_URL=database, CELERY_BROKER_URL=broker, TICKOVER_WORKLOAD="tests.integration.engine_samples:seven"
    )


def _celery(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "celery", "-A", "async_tick.celery_app", *arguments]


def _once(environment: dict[str, str], tick: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "cli.py", "once", str(tick), "--system", "async"], cwd=ROOT, env=environment,
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "no worker was there" not in done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _until(condition: Callable[[], Any], what: str, timeout_s: float = 40.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


@contextmanager
def _running(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _inspect(environment: dict[str, str], what: str) -> Any:
    done = subprocess.run(
        _celery("inspect", what, "--json", "--timeout=5"), cwd=ROOT, env=environment, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout[done.stdout.index("{") :])


def test_a_worker_as_one_would_type_it(environment: dict[str, str], tmp_path: Path) -> None:
    """`celery worker` consumes both queues and runs a tick; `inspect active` and `inspect stats` see it."""
    log = tmp_path / "worker.log"
    command = _celery("worker", "--loglevel=info", "--concurrency=4")
    with _running(command, environment, log) as worker:
        _until(lambda: b" ready." in log.read_bytes(), "the worker did not get ready")
        told = log.read_text()
        assert ".> critical" in told and ".> optional" in told
        outcome = _once(environment, 3)
        assert {step: seen["status"] for step, seen in outcome["steps"].items()} == dict.fromkeys(SEVEN, "done")
        (active,) = _inspect(environment, "active").values()
        assert active == []
        (stats,) = _inspect(environment, "stats").values()
        assert stats["pool"]["max-concurrency"] == 4
        # Steps that went on in another one's message are not counted there.
        assert stats["total"]["seven.monologue"] == 1
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0


def test_flower_shows_every_step(environment: dict[str, str], tmp_path: Path) -> None:
    """`celery flower` answers, and lists each step of a tick, those that went on in another's message too."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flower = _celery("flower", "--address=127.0.0.1", f"--port={port}")
    with (
        _running(flower, {**environment, "FLOWER_UNAUTHENTICATED_API": "true"}, tmp_path / "flower.log"),
        _running(_celery("worker", "--loglevel=info", "--concurrency=2"), environment, tmp_path / "worker.log"),
    ):
        _until(lambda: b" ready." in (tmp_path / "worker.log").read_bytes(), "the worker did not get ready")
        _until(lambda: _workers(port), "Flower saw no worker")
        _once(environment, 5)
        shown = _until(lambda: len(found := _tasks(port)) >= 7 and found, "Flower does not show all steps")
        assert {f"seven.{step}" for step in SEVEN} == {task["name"] for task in shown.values()}
        _until(lambda: {task["state"] for task in _tasks(port).values()} == {"SUCCESS"}, "a step does not end there")


def _get(port: int, path: str) -> Any:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/{path}", timeout=5) as answer:
            return json.load(answer)
    except OSError:
        return {}


def _workers(port: int) -> Any:
    return _get(port, "workers?refresh=1")


def _tasks(port: int) -> Any:
    return _get(port, "tasks")


def test_our_own_worker_command_starts_a_worker_again(environment: dict[str, str], tmp_path: Path) -> None:
    """`tickover worker`: its worker is killed and another comes up; SIGTERM ends both."""
    log = tmp_path / "worker.log"
    command = [sys.executable, "cli.py", "worker", "--concurrency", "1"]
    with _running(command, {**environment, "TICKOVER_LOG_LEVEL": "INFO"}, log) as worker:
        _until(lambda: b" ready." in log.read_bytes(), "the worker did not get ready")
        (child,) = _children(worker.pid)
        os.kill(child, signal.SIGKILL)
        _until(lambda: log.read_bytes().count(b" ready.") == 2, "no second worker came up")
        assert b"another one is started" in log.read_bytes()
        assert _once(environment, 1)["status"] == "done"
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0
        assert _children(worker.pid) == []


def _children(pid: int) -> list[int]:
    import psutil

    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.NoSuchProcess:
        return []


def test_models_can_be_read_by_everyone(environment: dict[str, str], tmp_path: Path) -> None:
    """`from async_tick.models import WorkflowCheckpoint, SessionLocal` finds the checkpoints of a tick."""
    with _running(_celery("worker", "--concurrency=1"), environment, tmp_path / "worker.log"):
        _until(lambda: _inspect_ready(environment), "the worker did not get ready")
        _once(environment, 7)
    script = (
        "from async_tick.models import WorkflowCheckpoint, SessionLocal\n"
        "with SessionLocal() as session:\n"
        "    print(*sorted(row.stage for row in session.query(WorkflowCheckpoint).filter_by(tick_number=7)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == sorted(SEVEN)


def _inspect_ready(environment: dict[str, str]) -> bool:
    done = subprocess.run(
        _celery("inspect", "ping", "--timeout=2"), cwd=ROOT, env=environment, capture_output=True, check=False
    )
    return done.returncode == 0
