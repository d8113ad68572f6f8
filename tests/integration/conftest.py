"""Fixtures of the engine's tests: the orchestrator on a fresh database, and workers that end with the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.integration.engine_support import StartWorker
from tests.integration.modules import imported_anew


@pytest.fixture
def orchestrator(database: str, broker: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The orchestrator, connected to this test's database and broker."""
    monkeypatch.setenv("TICKOVER_WORKLOAD", "tests.integration.engine_samples:seven")
    with imported_anew("async_tick"):
        from async_tick import orchestrator as found
        from async_tick.listener import listener

        yield found
        listener().stop()


@pytest.fixture
def start_worker(orchestrator: ModuleType, database: str, broker: str, tmp_path: Path) -> Iterator[StartWorker]:
    """Starts ready workers for a sample workload and ends them with the test."""
    from async_tick import worker

    started = []

    def start(
        workload: str, *, pool: str = "prefork", concurrency: int = 2, queues: str | None = None, **env: str
    ) -> Any:
        process = worker.start_worker(
            log_path=tmp_path / f"worker-{len(started)}.log", pool=pool, concurrency=concurrency,
            queues=queues, name=f"test{len(started)}",
            env={"DATABASE_URL": database, "CELERY_BROKER_URL": broker, "PYTHONWARNINGS": "default",
                 "TICKOVER_WORKLOAD": f"tests.integration.engine_samples:{workload}", **env},
        )  # fmt: skip
        started.append(process)
        process.ready()
        return process

    yield start
    for process in started:
        process.stop()
