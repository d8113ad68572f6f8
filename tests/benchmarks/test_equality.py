"""Deciding equality by canonical bytes against DeepDiff, on two equal documents of 5 KB, interleaved."""

from __future__ import annotations

import copy
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

from deepdiff import DeepDiff
from pytest_benchmark.fixture import BenchmarkFixture

from shadow.diff import changes
from tickover.canonical import canonical_text


def _document() -> dict[str, Any]:
    draw = random.Random(7)
    return {
        "beliefs": [
            {"text": f"belief {number} " + "x" * 40, "confidence": draw.random(), "sources": [number, number + 1]}
            for number in range(45)
        ]
    }


def _timed(run: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def test_equal_documents(benchmark: BenchmarkFixture) -> None:
    """How many times faster a comparison finds two documents equal than DeepDiff: 50 at least is wanted."""
    first = _document()
    second = copy.deepcopy(first)
    assert 4500 < len(canonical_text(first)) < 6500

    def ours() -> bool:
        return not changes(first, second)

    def theirs() -> bool:
        return not DeepDiff(first, second)

    assert ours() and theirs()
    times: dict[Callable[[], bool], list[float]] = {ours: [], theirs: []}
    for _ in range(60):
        for run, found in times.items():
            found.append(_timed(run))
    mine, deepdiff = (statistics.median(found) for found in times.values())
    benchmark.extra_info["times_faster"] = deepdiff / mine
    benchmark(ours)
    print(f"\n{deepdiff / mine:.0f} times faster than DeepDiff ({mine * 1e6:.0f} µs)")
