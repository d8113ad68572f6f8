"""Guardrails on real servers: each sends the route back by itself, with its reason, and nothing is lost."""

from __future__ import annotations

import time
import uuid
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.integration.engine_support import StartWorker
from tests.integration.route_job import job, read_state

WORKLOAD = "tests.integration.route_job:job"


@pytest.fixture
def served(orchestrator: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A loop under guard, and what it said."""
    monkeypatch.setenv("TICKOVER_WORKLOAD", WORKLOAD)
    from async_tick.guarding import Guard
    from async_tick.loop import Loop
    from async_tick.serving import Server

    said: list[str] = []
    guard = Guard("run", said.append)
    loop: Any = Loop(Server(job, WORKLOAD, "run", tmp_path / "home", time_scale=1.0, watch=guard), every_s=0)
    loop.said = said
    return loop


class Nothing:
    """A run beside that does nothing."""

    def name(self, epoch: int, owner: Any) -> str:
        return f"run-e{epoch}"

    def begin(self, begun: Any) -> None:
        assert begun.beside == f"run-e{begun.epoch}"

    def end(self, begun: Any, seen: Any, late: Any) -> None:
        assert (seen is None) == (begun.owner.value == "async")

    def wait_for_room(self, timeout_s: float) -> None:
        assert timeout_s > 0

    def close(self, patience_s: float) -> None:
        assert patience_s > 0


def none() -> Any:
    """No guardrail at all."""
    from async_tick.guardrails import Guardrails

    return Guardrails(failed=None, lost=None, slow=None, mismatches=None, hung_s=None, unserved_s=None)


def switch(guardrails: Any) -> Any:
    from async_tick.route import move, read_route
    from tickover.execution import System

    return move(read_route(), System.ASYNC, author="test", reason="test", guardrails=guardrails)


def ran(
    tick: int, *, outcome: str | None = "done", ms: float = 10.0, interval_ms: float = 0.0,
    comparison: str | None = None, owner: str = "async",
) -> None:  # fmt: skip
    """A tick as a loop would have left it under the epoch in force."""
    from tickover.ground.raw import connect_raw

    with closing(connect_raw()) as connection, connection, connection.cursor() as do:
        do.execute(
            "INSERT INTO ticks (run, tick, owner, runner_token, epoch, execution_id, outcome, interval_ms, "
            "comparison, claimed_at, adopted_at) SELECT 'run', %s, %s, %s::uuid, epoch, 'x', %s, %s, %s, "
            "clock_timestamp() - make_interval(secs => %s), CASE WHEN %s THEN clock_timestamp() END FROM route",
            (tick, owner, str(uuid.uuid4()), outcome, interval_ms, comparison, ms / 1000, outcome is not None),
        )
        if outcome is not None:
            do.execute("INSERT INTO states VALUES ('run', %s, %s)", (tick, '{"entries": []}'))


def look(epoch: int, said: list[str], running_s: float | None = None) -> None:
    from async_tick.guarding import Guard
    from tickover.ground.raw import connect_raw

    with closing(connect_raw()) as connection:
        Guard("run", said.append)(connection, epoch, running_s)


BROKEN = {
    "failed": ({"failed": 1}, [{"outcome": "failed"}, {"outcome": "failed"}], "2 failed ticks"),
    "lost": ({"lost": 2}, [{"ms": 1600.0, "interval_ms": 500.0}], "3 lost intervals"),
    "lost, while it runs": (
        {"lost": 2}, [{"outcome": None, "ms": 1600.0, "interval_ms": 500.0}], "3 lost intervals",
    ),
    "over the interval": ({"slow": 0}, [{"ms": 600.0, "interval_ms": 500.0}], "1 slow tick"),
    "over the old system's median": (
        {"slow": 1, "latency_factor": 2.0, "baseline_ms": 100.0}, [{"ms": 220.0}, {"ms": 230.0}], "2 slow ticks",
    ),
    "mismatches": ({"mismatches": 0}, [{"comparison": "mismatch"}], "1 mismatch"),
    "hung": ({"hung_s": 5.0}, [{"outcome": None, "ms": 6000.0}], "a tick has not ended after 6 s"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_each_guardrail_sends_the_route_back_by_itself(orchestrator: ModuleType, name: str) -> None:
    """Its own budget alone is set: the route is the old system's again, by the guardrail, with the reason."""
    from async_tick.guardrails import AUTHOR
    from async_tick.route import history, read_route

    budgets, ticks, reason = BROKEN[name]
    now = switch(replace(none(), **budgets))
    for number, tick in enumerate(ticks):
        ran(number, **tick)
    said: list[str] = []
    look(now.epoch, said)
    back = read_route()
    assert (back.owner.value, back.epoch, back.author, back.guardrails) == ("legacy", 3, AUTHOR, None)
    assert reason in back.reason and reason in said[0]
    assert history()[1].guardrails == replace(none(), **budgets)


@pytest.mark.parametrize("name", BROKEN)
def test_a_guardrail_that_is_not_used_up_moves_nothing(orchestrator: ModuleType, name: str) -> None:
    """The same with a budget that is as large as what was used."""
    from async_tick.guarding import usages
    from async_tick.route import read_route

    budgets, ticks, _ = BROKEN[name]
    now = switch(replace(none(), **{key: value + 2 if key in ("failed", "lost", "slow", "mismatches", "hung_s")
                                    else value for key, value in budgets.items()}))  # fmt: skip
    for number, tick in enumerate(ticks):
        ran(number, **tick)
    said: list[str] = []
    look(now.epoch, said)
    assert read_route() == now and said == []
    assert usages(now)["run"].ticks == sum(tick.get("outcome", "done") is not None for tick in ticks)


def test_what_happens_after_the_window_or_to_the_old_system_does_not_count(orchestrator: ModuleType) -> None:
    """Failures beyond the window, ticks that the old system began, and those of an earlier epoch."""
    from async_tick.route import read_route

    ran(0, outcome="failed", owner="async")
    now = switch(replace(none(), window_ticks=2, failed=0))
    ran(1, outcome="lost", owner="legacy")
    ran(2)
    ran(3)
    ran(4, outcome="failed")
    look(now.epoch, [])
    assert read_route() == now


def test_the_median_of_the_old_system_is_that_of_its_own_ticks(orchestrator: ModuleType) -> None:
    """Ticks that ended well, and no other; none where it ran none."""
    from async_tick.guarding import median_of_legacy

    assert median_of_legacy("run") is None
    for number, ms in enumerate((100.0, 200.0, 300.0)):
        ran(number, ms=ms, owner="legacy")
    ran(3, ms=9000.0, owner="legacy", outcome="failed")
    ran(4, ms=9000.0)
    assert median_of_legacy("run") == pytest.approx(200, abs=20)


def test_a_route_that_has_moved_meanwhile_is_left_where_it_is(orchestrator: ModuleType) -> None:
    """A loop that still thinks of an older epoch moves nothing."""
    from async_tick.route import move, read_route
    from tickover.execution import System

    first = switch(replace(none(), failed=0))
    ran(0, outcome="failed")
    move(first, System.LEGACY, author="ada", reason="by hand")
    second = switch(none())
    look(first.epoch, [])
    assert read_route() == second


def test_a_tick_that_nobody_works_on_is_run_by_the_old_system(served: Any, tmp_path: Path) -> None:
    """No worker is there: the loop puts the old system in charge by itself, which runs the very tick."""
    from async_tick.route import read_route

    switch(replace(none(), unserved_s=0.4))
    ended: list[Any] = []
    begun = time.monotonic()
    served.serve(1, lambda end, late: ended.append(end))
    assert time.monotonic() - begun >= 0.4
    assert [(end.tick, end.owner.value, end.status) for end in ended] == [(0, "legacy", "done")]
    assert "no worker has been there" in read_route().reason and "legacy is in charge again" in served.said[0]
    assert read_state(tmp_path / "home")["entries"] == [[0, "legacy"]]


def test_nothing_that_the_new_system_wrote_is_lost(served: Any, start_worker: StartWorker, tmp_path: Path) -> None:
    """A mismatch in the second tick becomes known: the old system goes on from what the new one left."""
    from async_tick.guarding import note_comparison

    start_worker("seven", pool="threads", TICKOVER_WORKLOAD=WORKLOAD)
    switch(replace(none(), mismatches=0))

    def tell(end: Any, late: bool) -> None:
        note_comparison("run", end.tick, "another run", "mismatch")
        if end.tick == 1:
            note_comparison("run", 1, "run-e2", "mismatch")

    served.server.beside = Nothing()
    served.serve(4, tell)
    assert read_state(tmp_path / "home")["entries"] == [[0, "async"], [1, "async"], [2, "legacy"], [3, "legacy"]]
    assert len(served.said) == 1 and "1 mismatch" in served.said[0]


def test_a_clean_switchover_stays(served: Any, start_worker: StartWorker) -> None:
    """Under all guardrails with their defaults the new system keeps its charge, and what it used is told."""
    from async_tick.guarding import usages
    from async_tick.guardrails import Guardrails
    from async_tick.route import read_route

    start_worker("seven", pool="threads", TICKOVER_WORKLOAD=WORKLOAD)
    now = switch(Guardrails(window_ticks=3))
    served.serve(4, lambda end, late: None)
    assert read_route() == now and served.said == []
    used = usages(now)["run"]
    assert (used.ticks, used.failed, used.lost, used.slow, used.running_s) == (3, 0, 0, 0, None)
