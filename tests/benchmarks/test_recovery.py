"""How long it takes from kill -9 of a whole worker tree, in mid-step, to the step running again."""

from __future__ import annotations

import datetime as dt
import itertools
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tests.integration import engine_samples
from tests.integration.engine_support import key, until
from tests.integration.modules import imported_anew

TRIALS = 20


@pytest.fixture
def engine(database: str, broker: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ModuleType, ModuleType]]:
    """Orchestrator and workers on a fresh database."""
    monkeypatch.setenv("TICKOVER_WORKLOAD", "tests.integration.engine_samples:hanging")
    with imported_anew("async_tick"):
        from async_tick import orchestrator, worker
        from async_tick.listener import listener

        yield orchestrator, worker
        listener().stop()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("heir", ["warm", "cold"])
def test_a_killed_worker(
    engine: tuple[ModuleType, ModuleType], database: str, broker: str, tmp_path: Path, heir: str,
    benchmark: BenchmarkFixture,
) -> None:  # fmt: skip
    """Seconds to the step running again, where another worker lives (1 is wanted) or is started then (3)."""
    orchestrator, worker = engine
    env = {"DATABASE_URL": database, "CELERY_BROKER_URL": broker}
    taken: list[float] = []
    started: list[Any] = []
    numbers = itertools.count()

    def start() -> Any:
        number = next(numbers)
        started.append(
            worker.start_worker(log_path=tmp_path / f"{number}.log", concurrency=1, name=f"w{number}", env=env)
        )
        return started[-1]

    def trial() -> None:
        number = len(taken)
        mark = tmp_path / f"mark-{number}"
        victim = start()
        victim.ready()
        orchestrator.start(key(number), engine_samples.hanging, state={}, input={"mark": str(mark)})
        until(mark.exists)
        if heir == "warm":
            start().ready()
        killed_at = dt.datetime.now(dt.UTC)
        victim.kill()
        if heir == "cold":
            start()
        ended = orchestrator.wait(str(key(number)), 60)
        again = ended.steps["goal_selection"].started_at
        assert ended.status == "done" and ended.steps["goal_selection"].recoveries == 1
        assert [effect.payload["step"] for effect in ended.effects] == list(engine_samples.hanging.order)
        taken.append((again - killed_at).total_seconds())
        started.pop().stop()

    begun = time.perf_counter()
    try:
        benchmark.pedantic(trial, rounds=TRIALS)
    finally:
        for process in started:
            process.stop()
    benchmark.extra_info["median_s"] = statistics.median(taken)
    print(
        f"\n{heir}: median {statistics.median(taken):.2f} s, longest {max(taken):.2f} s of {TRIALS} trials "
        f"({time.perf_counter() - begun:.0f} s)"
    )
