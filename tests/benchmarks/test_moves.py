"""How long no tick runs when the route moves, and how long a rollback takes when every worker is dead."""

from __future__ import annotations

import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tests.benchmarks.timed_job import STAMPS, WORKLOAD
from tests.chaos.crew import Crew, Party
from tests.chaos.storm_job import RUN
from tests.chaos.storm_world import scratch_environment
from tests.conftest import ROOT
from tests.integration.engine_support import until

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="signals go through process descriptors")

MOVES, TRIALS = 30, 15
Stamp = tuple[int, int, str, str]


class Bench:
    """A loop and a worker, ticks without a pause between them, and the stamps that they leave."""

    def __init__(self, scratch: Path, environment: dict[str, str]) -> None:
        self.stamps = scratch / "stamps"
        self.environment = {**environment, "TICKOVER_WORKLOAD": WORKLOAD, STAMPS: str(self.stamps)}
        self.crew = Crew(scratch, self.environment)
        self.place = ("--run", RUN, "--home", str(self.crew.home))
        self._names = itertools.count()
        self.worker = self.start_worker()
        self.loop = self.crew.start("loop", "serve", *self.place, "--every", "0")

    def start_worker(self) -> Party:
        """A worker; the loop's own is not needed."""
        return self.crew.start("worker", name=f"bench-{next(self._names)}")

    def read(self) -> list[Stamp]:
        """All stamps: nanoseconds, tick, owner, what."""
        lines = [line.split() for line in self.stamps.read_text().splitlines()] if self.stamps.exists() else []
        return [(int(line[0]), int(line[1]), line[2], line[3]) for line in lines]

    def ticks_of(self, owner: str, count: int = 4) -> None:
        """Wait until the latest ticks are this owner's."""
        until(
            lambda: len(found := [each for each in self.read() if each[3] == "ends"][-count:]) == count
            and all(each[2] == owner for each in found), 60,
        )  # fmt: skip

    def pauses(self) -> dict[str, list[float]]:
        """`OWNER to OWNER` -> seconds from the end of a tick's work to the beginning of the next one's."""
        found: dict[str, list[float]] = {}
        stamps = sorted(self.read())
        ends = {each[1]: each for each in stamps if each[3] == "ends"}
        # A tick that was fenced began in both systems: what counts is the one that ended it.
        counts = [each for each in stamps if each[3] == "begins" and each[2] == ends.get(each[1], each)[2]]
        begins = {each[1]: each for each in reversed(counts)}
        for tick, begin in sorted(begins.items()):
            if tick - 1 in ends:
                before = ends[tick - 1]
                found.setdefault(f"{before[2]} to {begin[2]}", []).append((begin[0] - before[0]) / 1e9)
        return found

    def close(self) -> None:
        """End all."""
        self.crew.close()


@pytest.fixture
def bench(database: str, broker: str, tmp_path: Path) -> Iterator[Bench]:
    """The bench, over a fresh database."""
    with ExitStack() as stack:
        found = Bench(tmp_path, scratch_environment(tmp_path, database, broker))
        stack.callback(found.close)
        yield found


def _tell(name: str, taken: list[float]) -> None:
    print(f"{name}: median {statistics.median(taken):.3f} s, most {max(taken):.3f} s, of {len(taken)}")


def _measure(benchmark: BenchmarkFixture, act: Callable[[], None]) -> None:
    benchmark.pedantic(act, rounds=1)


@pytest.mark.timeout(600)
def test_the_pause_between_ticks(bench: Bench, benchmark: BenchmarkFixture) -> None:
    """Seconds without a tick at a switchover and at a rollback (1 is wanted of each)."""

    def there_and_back() -> None:
        bench.ticks_of("legacy")
        for _ in range(MOVES):
            bench.crew.start("switch", reason="bench", budget=None)
            bench.ticks_of("async")
            bench.crew.start("rollback", "rollback", *bench.place, "--reason", "bench")
            bench.ticks_of("legacy")

    _measure(benchmark, there_and_back)
    pauses = bench.pauses()
    for name, taken in sorted(pauses.items()):
        _tell(name, taken)
        benchmark.extra_info[name] = statistics.median(taken)
    assert len(pauses["legacy to async"]) >= MOVES - 1 and len(pauses["async to legacy"]) >= MOVES - 1


@pytest.mark.timeout(600)
def test_a_rollback_with_every_worker_dead(bench: Bench, benchmark: BenchmarkFixture) -> None:
    """Seconds from the command, typed when the worker is dead and a tick hangs, to the old system's tick (3 are
    wanted)."""
    taken: list[float] = []
    command = [sys.executable, "cli.py", "rollback", *bench.place, "--reason", "bench"]

    def trials() -> None:
        bench.ticks_of("legacy")
        for _ in range(TRIALS):
            bench.crew.start("switch", reason="bench", budget=None)
            bench.ticks_of("async")
            bench.worker.send(9)
            until(lambda: not bench.worker.alive())
            begun = time.time_ns()
            subprocess.run(command, cwd=ROOT, env=bench.environment, check=True, capture_output=True, timeout=60)
            bench.ticks_of("legacy", 1)
            first = min(each[0] for each in bench.read() if each[0] > begun and each[2:] == ("legacy", "begins"))
            taken.append((first - begun) / 1e9)
            bench.worker = bench.start_worker()

    _measure(benchmark, trials)
    _tell("rollback, workers dead", taken)
    benchmark.extra_info["rollback"] = statistics.median(taken)
