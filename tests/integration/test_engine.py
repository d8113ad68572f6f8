"""The engine against real PostgreSQL, Redis and Celery workers."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.integration import engine_samples
from tests.integration.engine_support import StartWorker, key, until


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_tick_runs_its_steps_in_the_order_of_their_needs(
    orchestrator: ModuleType, start_worker: StartWorker, pool: str
) -> None:
    """Seven steps end, each with a checkpoint and its effect, and the effects stand in graph order."""
    start_worker("seven", pool=pool)
    ended = orchestrator.execute(key(), engine_samples.seven, state={}, timeout_s=30)
    assert ended.status == "done"
    assert {step: seen.status for step, seen in ended.steps.items()} == dict.fromkeys(
        engine_samples.seven.order, "done"
    )
    assert [effect.payload["step"] for effect in ended.effects] == list(engine_samples.seven.order)


def test_a_worker_for_one_queue_does_the_work_of_no_other(
    orchestrator: ModuleType, start_worker: StartWorker
) -> None:  # fmt: skip
    """Two ticks come to the end of the critical queue, and none of the optional steps is begun until a worker for
    those is there."""

    def attempts(tick: int, queue: str) -> list[int]:
        steps = orchestrator.outcome(str(key(tick))).steps
        return [seen.attempts for name, seen in steps.items() if engine_samples.seven.step(name).queue == queue]

    start_worker("seven", queues="critical", concurrency=1)
    for tick in range(2):
        orchestrator.start(key(tick), engine_samples.seven, state={})
        until(lambda tick=tick: attempts(tick, "critical") == [1, 1, 1])
    assert attempts(0, "optional") == [0, 0, 0, 0]
    start_worker("seven", queues="optional")
    for tick in range(2):
        assert orchestrator.wait(str(key(tick)), 30).status == "done"


def test_the_same_tick_started_twice_is_started_once(
    orchestrator: ModuleType, start_worker: StartWorker, tmp_path: Path
) -> None:
    """A second start joins the first; each step ran once; another input is refused by name."""
    start_worker("seven")
    ledger = {"ledger": str(tmp_path / "ledger")}
    assert orchestrator.start(key(), engine_samples.seven, state={}, input=ledger)
    assert not orchestrator.start(key(), engine_samples.seven, state={}, input=ledger)
    orchestrator.wait(str(key()), 30)
    assert not orchestrator.start(key(), engine_samples.seven, state={}, input=ledger)
    lines = (tmp_path / "ledger").read_text().splitlines()
    assert sorted(lines) == sorted(f"{step} 1 begin" for step in engine_samples.seven.order)
    with pytest.raises(orchestrator.DifferentInput, match="another state"):
        orchestrator.start(key(), engine_samples.seven, state={"other": 1}, input=ledger)


def test_a_failing_step_is_retried_and_its_failed_attempts_leave_no_effect(
    orchestrator: ModuleType, start_worker: StartWorker, tmp_path: Path
) -> None:
    """Two attempts fail, the third counts, and one effect stands."""
    start_worker("retrying")
    ended = orchestrator.execute(
        key(), engine_samples.retrying, state={}, input={"ledger": str(tmp_path / "ledger")}, timeout_s=30
    )
    assert ended.steps["monologue"].attempts == 3
    assert [effect.step for effect in ended.effects].count("monologue") == 1


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_each_kind_of_trouble_ends_as_the_contract_says(
    orchestrator: ModuleType, start_worker: StartWorker, pool: str
) -> None:
    """Fallback, optional failure, condition, soft limit, a result without JSON form, a hidden dependency."""
    start_worker("troubled", pool=pool)
    if pool == "threads":
        pytest.skip("a sleep of 30 s in a thread is not interrupted: that a limit is late there is the next test's")
    ended = orchestrator.execute(key(), engine_samples.troubled, state={}, timeout_s=40)
    assert ended.status == "done"
    assert {step: seen.status for step, seen in ended.steps.items()} == {
        "falls_back": "fallback", "optional": "failed", "unneeded": "not_applicable", "slow": "failed",
        "not_json": "failed", "hidden": "failed", "gathers": "done",
    }  # fmt: skip
    assert "StepTimeout" in str(ended.steps["slow"].error)
    assert "NotCanonical" in str(ended.steps["not_json"].error) and ended.steps["not_json"].attempts == 1
    assert "UndeclaredNeed" in str(ended.steps["hidden"].error) and ended.steps["hidden"].attempts == 1
    assert ended.steps["gathers"].result["falls_back"]["default"] is True
    assert "absent result of optional" in ended.steps["gathers"].result["optional"]
    assert ended.effects == ()


def test_a_critical_failure_fails_the_tick(orchestrator: ModuleType, start_worker: StartWorker) -> None:
    """What stands behind the failed step is cancelled, and the outcome names the step."""
    start_worker("fatal")
    ended = orchestrator.execute(key(), engine_samples.fatal, state={}, timeout_s=30)
    assert ended.status == "failed" and str(ended.error).startswith("first: ConnectionError")
    assert ended.steps["second"].status == "cancelled"


def test_a_killed_worker_tree_loses_no_tick(
    orchestrator: ModuleType, start_worker: StartWorker, tmp_path: Path
) -> None:
    """kill -9 of a whole worker in mid-step: another worker runs the step again, and each effect stands once."""
    first = start_worker("hanging", concurrency=1)
    mark = tmp_path / "mark"
    orchestrator.start(key(), engine_samples.hanging, state={}, input={"mark": str(mark)})
    until(mark.exists)
    start_worker("hanging", concurrency=1)
    first.kill()
    ended = orchestrator.wait(str(key()), 30)
    assert ended.status == "done" and ended.steps["goal_selection"].recoveries == 1
    assert [effect.payload["step"] for effect in ended.effects] == list(engine_samples.hanging.order)


def test_a_lost_hint_is_sent_again(orchestrator: ModuleType, start_worker: StartWorker, servers: Any) -> None:
    """A broker emptied before any worker was there: the sweeper sends the hint again and the tick ends."""
    import redis

    orchestrator.start(key(), engine_samples.seven, state={})
    with contextlib.closing(redis.Redis.from_url(servers.redis_url)) as client:
        client.flushall()
    start_worker("seven")
    assert orchestrator.wait(str(key()), 30).status == "done"


def test_who_lost_the_token_is_refused(orchestrator: ModuleType) -> None:
    """A claim that was taken over can finish nothing: one checkpoint, the second claimant's."""
    from async_tick.claims import Claims
    from async_tick.connection import Connection

    connection = Connection("test")
    claims = Claims(connection, 1, 30)
    orchestrator.start(key(), engine_samples.seven, state={})
    zombie = claims.claim(str(key()), "monologue", 60)
    assert zombie is not None
    assert claims.claim(str(key()), "monologue", 60) is None
    connection.rows("UPDATE step_runs SET lease_until = now() - interval '1 s' WHERE status = 'running'")
    connection.rows("SELECT * FROM tickover_sweep(%s::integer[], 100, 5)", ([],))
    heir = claims.claim(str(key()), "monologue", 60)
    assert heir is not None and heir.attempt == 1
    assert not claims.complete(zombie, "done", result='"stale"').accepted
    assert claims.complete(heir, "done", result='"fresh"').accepted
    assert not claims.complete(zombie, "failed", error="late").accepted
    assert connection.rows("SELECT state FROM workflow_checkpoints") == [('"fresh"',)]


def test_draws_that_diverge_are_told(orchestrator: ModuleType, start_worker: StartWorker) -> None:
    """A step that draws what its record does not have: the outcome names the doors, step by step."""
    start_worker("seven")
    record = {"monologue": {"random": [["random", None, 0.25]], "ids": ["00000000-0000-4000-8000-000000000001"]}}
    ended = orchestrator.execute(
        key(), engine_samples.seven, state={}, harness={"tape": None, "draws": record}, timeout_s=30
    )
    assert ended.steps["monologue"].result["number"] == 0.25
    assert ended.steps["monologue"].diverged == ()
    assert ended.steps["goal_selection"].diverged == ("ids", "random")
