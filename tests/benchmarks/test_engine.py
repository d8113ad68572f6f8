"""The engine against a plain Celery chain and chord, interleaved in one run; ratios of medians are printed."""

from __future__ import annotations

import importlib
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tests.integration import engine_samples
from tickover.execution import ExecutionKey, Purpose, System

ROUNDS = 8
TICKS = 15
IN_FLIGHT = 16

RunTick = Callable[[], Any]


@pytest.fixture
def systems(
    database: str, broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[RunTick, RunTick]]:
    """Two functions that run one tick to its end: ours and the peer's, each on a worker with four processes."""
    monkeypatch.setenv("TICKOVER_WORKLOAD", "tests.integration.engine_samples:seven")
    monkeypatch.setenv("PEER_BROKER", broker)
    monkeypatch.setenv("PEER_BACKEND", broker)
    # The application holds on to the database and broker with which it was imported.
    for name in [name for name in sys.modules if name.startswith("async_tick") and name != "async_tick.models"]:
        del sys.modules[name]
    from async_tick import orchestrator, worker
    from async_tick.listener import listener

    peer = importlib.import_module("tests.benchmarks.peer")
    urls = {"DATABASE_URL": database, "CELERY_BROKER_URL": broker}
    ours = worker.start_worker(log_path=tmp_path / "ours.log", concurrency=4, name="ours", env=urls)
    arguments = [
        sys.executable, "-m", "celery", "-A", "tests.benchmarks.peer", "worker", "--loglevel=INFO", "--concurrency=4",
        "--queues=peer", "--hostname=peer@%h", "--without-gossip", "--without-mingle",
    ]  # fmt: skip
    theirs = worker.WorkerProcess(arguments, log_path=tmp_path / "peer.log")
    try:
        ours.ready()
        theirs.ready()
        numbers = itertools.count()

        def run_ours() -> None:
            key = ExecutionKey(run="bench", tick=next(numbers), system=System.ASYNC, purpose=Purpose.CONTROL)
            ended = orchestrator.execute(key, engine_samples.seven, state={}, timeout_s=30)
            assert ended.status == "done"

        def run_theirs() -> None:
            assert peer.tick().get(timeout=30) == 4

        for _ in range(5):
            run_ours()
            run_theirs()
        yield run_ours, run_theirs
    finally:
        ours.stop()
        theirs.stop()
        listener().stop()
        peer.app.close()


def _timed(run: RunTick) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def test_one_tick_in_flight(systems: tuple[RunTick, RunTick], benchmark: BenchmarkFixture) -> None:
    """The p50 of a tick of seven no-op steps, as a ratio to the peer's."""
    ours, theirs = systems
    times: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(ROUNDS):
        times["ours"] += [_timed(ours) for _ in range(TICKS)]
        times["peer"] += [_timed(theirs) for _ in range(TICKS)]
    medians = {name: statistics.median(found) for name, found in times.items()}
    benchmark.extra_info["ratio_of_p50"] = medians["ours"] / medians["peer"]
    benchmark.pedantic(ours, rounds=20)
    print(f"\np50 ratio {medians['ours'] / medians['peer']:.2f} ({medians['ours'] * 1000:.1f} ms)")


def test_sixteen_ticks_in_flight(systems: tuple[RunTick, RunTick], benchmark: BenchmarkFixture) -> None:
    """Ticks a second with sixteen in flight, as a ratio to the peer's."""
    rates: dict[int, list[float]] = {0: [], 1: []}

    def batch(run: RunTick) -> float:
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            begun = time.perf_counter()
            list(pool.map(lambda _: run(), range(64)))
            return 64 / (time.perf_counter() - begun)

    for _ in range(4):
        for which, run in enumerate(systems):
            rates[which].append(batch(run))
    ratio = statistics.median(rates[0]) / statistics.median(rates[1])
    benchmark.extra_info["ratio_of_rates"] = ratio
    benchmark.pedantic(batch, args=(systems[0],), rounds=1)
    print(f"\nrate ratio {ratio:.2f} ({statistics.median(rates[0]):.0f} ticks/s)")
