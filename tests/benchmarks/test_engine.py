"""The engine against a plain Celery chain and chord, interleaved in one run; ratios of medians are printed."""

from __future__ import annotations

import gc
import importlib
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tests.integration import engine_samples
from tests.integration.modules import imported_anew
from tickover.execution import ExecutionKey, Purpose, System

ROUNDS = 8
TICKS = 15
IN_FLIGHT = 16

RunTick = Callable[[], Any]


@dataclass(frozen=True, kw_only=True)
class Systems:
    """Functions that run one tick to its end, and the process ids of both workers."""

    ours: RunTick
    peer: RunTick
    pid: int
    peer_pid: int


@pytest.fixture
def anew() -> Iterator[None]:
    """The application holds on to the database and broker with which it was imported."""
    with imported_anew("async_tick"):
        yield


@pytest.fixture(params=["one_queue", "seven"], ids=["one queue, as the peer has", "two queues, as the being has"])
def systems(
    request: pytest.FixtureRequest, anew: None, database: str, broker: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Systems]:  # fmt: skip
    """Ours and the peer, each on a worker with four processes."""
    workflow = getattr(engine_samples, request.param)
    monkeypatch.setenv("TICKOVER_WORKLOAD", f"tests.integration.engine_samples:{request.param}")
    monkeypatch.setenv("PEER_BROKER", broker)
    monkeypatch.setenv("PEER_BACKEND", broker)
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
            ended = orchestrator.execute(key, workflow, state={}, timeout_s=30)
            assert ended.status == "done"

        def run_theirs() -> None:
            result = peer.tick()
            assert result.get(timeout=30) == 4
            result.forget()

        for _ in range(5):
            run_ours()
            run_theirs()
        yield Systems(ours=run_ours, peer=run_theirs, pid=ours.pid, peer_pid=theirs.pid)
    finally:
        ours.stop()
        theirs.stop()
        listener().stop()
        # The peer's results unsubscribe when they are collected, for which they need their broker.
        gc.collect()
        peer.app.close()


def _timed(run: RunTick) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def test_one_tick_in_flight(systems: Systems, benchmark: BenchmarkFixture) -> None:
    """The p50 of a tick of seven no-op steps as a ratio to the peer's: 0.60 at most is wanted."""
    times: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(ROUNDS):
        times["ours"] += [_timed(systems.ours) for _ in range(TICKS)]
        times["peer"] += [_timed(systems.peer) for _ in range(TICKS)]
    medians = {name: statistics.median(found) for name, found in times.items()}
    benchmark.extra_info["ratio_of_p50"] = medians["ours"] / medians["peer"]
    benchmark.pedantic(systems.ours, rounds=20)
    print(f"\np50 ratio {medians['ours'] / medians['peer']:.2f} ({medians['ours'] * 1000:.1f} ms)")


# The peer's client leaves the connections of the batch's threads to the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_sixteen_ticks_in_flight(systems: Systems, benchmark: BenchmarkFixture) -> None:
    """Ticks a second with sixteen in flight as a ratio to the peer's: 1.5 at least is wanted."""
    rates: dict[int, list[float]] = {0: [], 1: []}

    def batch(run: RunTick) -> float:
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            begun = time.perf_counter()
            list(pool.map(lambda _: run(), range(64)))
            return 64 / (time.perf_counter() - begun)

    for _ in range(4):
        for which, run in enumerate((systems.ours, systems.peer)):
            rates[which].append(batch(run))
    # The peer's results unsubscribe when they are collected, which is not to happen in ours' measurement.
    gc.collect()
    ratio = statistics.median(rates[0]) / statistics.median(rates[1])
    benchmark.extra_info["ratio_of_rates"] = ratio
    benchmark.pedantic(batch, args=(systems.ours,), rounds=1)
    print(f"\nrate ratio {ratio:.2f} ({statistics.median(rates[0]):.0f} ticks/s)")


def test_commits_and_memory(systems: Systems, database: str, benchmark: BenchmarkFixture) -> None:
    """Transactions that write, per tick (16 at most are wanted), and the workers' memory (PSS) as a ratio to the
    peer's (1.25)."""
    with closing(psycopg2.connect(database)) as connection:
        connection.autocommit = True

        def transactions() -> int:
            with connection.cursor() as cursor:
                # Each writing transaction takes one number, and so does this question.
                cursor.execute("SELECT pg_current_xact_id()::text::bigint")
                return int(cursor.fetchall()[0][0])

        before = transactions()
        benchmark.pedantic(systems.ours, rounds=50)
        commits = (transactions() - before - 1) / 50
    for _ in range(50):
        systems.peer()
    ratio = _memory(systems.pid) / _memory(systems.peer_pid)
    benchmark.extra_info.update(commits_a_tick=commits, ratio_of_pss=ratio)
    print(f"\n{commits:.1f} writing transactions a tick; PSS ratio {ratio:.2f}")


def _memory(pid: int) -> float:
    group = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return float(sum(process.memory_full_info().pss for process in group))
