"""What `serve --shadow` costs the system in charge: ticks with and without it, interleaved, in one loop."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.integration.beside_job import calling
from tests.integration.conftest import orchestrator, start_worker
from tests.integration.engine_support import StartWorker
from tests.integration.modules import imported_anew
from tickover.ground.settings import reset_settings

__all__ = ["orchestrator", "start_worker"]

WORKLOAD = "tests.integration.beside_job:calling"
# Ticks of a charge; every other one has the other system beside it. The interval leaves a candidate time to end.
TICKS, EVERY_S = 120, 0.25
_TOOK = """
SELECT t.beside IS NOT NULL, extract(epoch FROM coalesce(w.finished_at - w.created_at, t.adopted_at - t.claimed_at))
FROM ticks t LEFT JOIN workflows w USING (execution_id) WHERE t.tick >= 10 AND t.outcome = 'done'
"""


@pytest.fixture
def anew(orchestrator: ModuleType) -> Iterator[None]:
    """As the engine's modules are made anew, so are those that import them."""
    with imported_anew("shadow"):
        yield


@pytest.mark.benchmark(group="beside")
@pytest.mark.parametrize("charge", ["legacy", "async"])
def test_cost_for_the_system_in_charge(
    anew: None, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    benchmark: Any, charge: str,
) -> None:  # fmt: skip
    """A tick of four steps, three of which call a port three times with 2 kB: how much longer it takes beside."""
    monkeypatch.setenv("TICKOVER_WORKLOAD", WORKLOAD)
    monkeypatch.setenv("TICKOVER_DATA_DIR", str(tmp_path / "data"))
    reset_settings()
    from async_tick.beside import load
    from async_tick.loop import Loop
    from async_tick.route import move, read_route
    from async_tick.serving import Server
    from tickover.execution import System
    from tickover.ground.raw import connect_raw

    start_worker("seven", pool="threads", TICKOVER_WORKLOAD=WORKLOAD)
    if charge == "async":
        move(read_route(), System.ASYNC, author="benchmark", reason="benchmark")
    beside = load(calling, WORKLOAD, "run", lambda text: None, every_s=EVERY_S)
    name, asked = beside.name, [0]

    def every_other(epoch: int, owner: System) -> str | None:
        # Asked twice a tick: when it is claimed, and when it begins.
        asked[0] += 1
        return name(epoch, owner) if (asked[0] - 1) // 2 % 2 else None

    monkeypatch.setattr(beside, "name", every_other)
    loop = Loop(Server(calling, WORKLOAD, "run", tmp_path / "home", time_scale=1.0, beside=beside), every_s=EVERY_S)
    benchmark.pedantic(lambda: loop.serve(TICKS, lambda end, late: None), rounds=1)
    with closing(connect_raw()) as connection, connection.cursor() as do:
        do.execute(_TOOK)
        took = {True: list[float](), False: list[float]()}
        for with_beside, seconds in do.fetchall():
            took[with_beside].append(float(seconds) * 1000)
    assert min(map(len, took.values())) > TICKS // 4
    for with_beside, found in took.items():
        quantiles = statistics.quantiles(found, n=20)
        benchmark.extra_info["beside" if with_beside else "alone"] = {
            "ticks": len(found), "p50_ms": round(statistics.median(found), 2), "p95_ms": round(quantiles[18], 2),
        }  # fmt: skip
    print(charge, dict(benchmark.extra_info))
