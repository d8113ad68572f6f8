"""The orchestrator: starts executions, once each, and waits for them."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from async_tick import hints, sql
from async_tick.connection import Pool, again_after_loss
from async_tick.listener import listener
from async_tick.outcome import ExecutionOutcome, read_outcome
from tickover.canonical import Json, canonical_text, digest, parse
from tickover.errors import ConfigurationError, InfrastructureError, TickoverError
from tickover.execution import ExecutionKey, Purpose, System
from tickover.faults import Fault, armed
from tickover.workflow import Workflow

_connection = Pool("tickover orchestrator")
# Threads that wait for async callers; each costs a stack, not a database connection.
_pool = ThreadPoolExecutor(max_workers=64, thread_name_prefix="tickover-wait")


class DifferentInput(ConfigurationError):
    """An execution was started before with another input."""


class TickTimeout(InfrastructureError):
    """An execution did not end in time; it goes on, and can be waited for again."""


class TickFailed(TickoverError):
    """An execution ended without success; `outcome` is what it did."""

    def __init__(self, outcome: ExecutionOutcome) -> None:
        self.outcome = outcome
        super().__init__(f"execution {outcome.execution_id} failed: {outcome.error}")


def start(
    key: ExecutionKey, workflow: Workflow, *, state: Json, input: Json = None,
    harness: Mapping[str, Any] | None = None, time_scale: float = 1.0, started_at: dt.datetime | None = None,
) -> bool:  # fmt: skip
    """Start an execution, or join it if it was started before; whether this call started it.

    state, input: what the tick starts from. harness: passed to the steps' doors, unread. time_scale: of waits and
    limits. started_at: the tick's instant, from which clock draws derive; None is now. Raises DifferentInput,
    NotCanonical, ArmedForControl.
    """
    fault = armed(harness, str(key))
    if started_at is None:
        started_at = dt.datetime.now(dt.UTC)
    state_text, input_text = canonical_text(state, workflow.normalise), canonical_text(input, workflow.normalise)
    harness_text = None if harness is None else canonical_text(harness)
    input_hash = digest([workflow.name, workflow.version, state_text, input_text, harness_text])
    steps = [
        {"step": name, "position": position, "queue": workflow.step(name).queue,
         "critical": workflow.step(name).critical, "needs": list(workflow.step(name).needs)}
        for name, position in workflow.positions.items()
    ]  # fmt: skip
    values = (
        str(key), key.run, key.tick, key.system.value, key.purpose.value, key.pass_, workflow.name, workflow.version,
        input_text, input_hash, state_text, harness_text, started_at, time_scale, json.dumps(steps),
    )  # fmt: skip
    # Where the connection is lost, whether it arrived is unknown; starting twice is starting once.
    created, known_hash, ready = again_after_loss(lambda: _connection.rows(sql.START, values)[0])
    if known_hash != input_hash:
        raise DifferentInput(
            f"execution {key} was started before with another state, input or version; "
            f"`tickover workflow show {key}` shows it. Use another run or pass"
        )
    if fault is not None:
        fault.started()
    _publish(workflow, str(key), ready, fault)
    return bool(created)


def begun_with(key: ExecutionKey) -> tuple[Mapping[str, Any] | None] | None:
    """The harness that an execution was started with, in a tuple; None if it was not started."""
    found = _connection.rows("SELECT harness FROM workflows WHERE execution_id = %s", (str(key),))
    return None if not found else (None if found[0][0] is None else parse(found[0][0]),)


def _publish(workflow: Workflow, execution_id: str, steps: list[str], fault: Fault | None) -> None:
    from async_tick.celery_app import app
    from async_tick.tasks import publish

    if steps:
        hints.send(lambda: publish(app, workflow, execution_id, steps, fault))


def outcome(execution_id: str) -> ExecutionOutcome:
    """How an execution stands now. Raises ConfigurationError if there is none."""
    return again_after_loss(lambda: read_outcome(_connection, execution_id))


def wait(execution_id: str, timeout_s: float | None = None) -> ExecutionOutcome:
    """The outcome of an execution, once it has ended. Raises TickTimeout after `timeout_s` seconds."""
    if not listener().wait(execution_id, timeout_s):
        raise _late(execution_id, timeout_s)
    return outcome(execution_id)


def _late(execution_id: str, timeout_s: float | None) -> TickTimeout:
    return TickTimeout(
        f"execution {execution_id} did not end within {timeout_s:g} s; it goes on. "
        "`tickover status` shows whether a worker is there for each queue"
    )


def execute(
    key: ExecutionKey, workflow: Workflow, *, timeout_s: float | None = None, **start_with: Any
) -> ExecutionOutcome:
    """Start an execution or join it, and wait for its end: `start` and `wait` in one."""
    execution_id = str(key)
    listener().start()
    with listener().expect(execution_id) as ended:
        if not start(key, workflow, **start_with):
            # It was there before, and may have ended before anyone listened.
            return wait(execution_id, timeout_s)
        if not ended.wait(timeout_s):
            raise _late(execution_id, timeout_s)
    return outcome(execution_id)


class Orchestrator:
    """Runs ticks of one workflow for one run."""

    def __init__(
        self, workflow: Workflow, run: str, *, time_scale: float = 1.0, timeout_s: float | None = None
    ) -> None:
        self.workflow, self.run, self.time_scale, self.timeout_s = workflow, run, time_scale, timeout_s

    def execute_heavy_tick_sync(self, tick: int, context: Mapping[str, Any]) -> ExecutionOutcome:
        """Run tick number `tick`, or join it, and return how it ended. Raises TickFailed, TickTimeout,
        DifferentInput.

        context: `state` (the state document), `input`, and `started_at` (aware datetime), the latter two optional.
        """
        key = ExecutionKey(run=self.run, tick=tick, system=System.ASYNC, purpose=Purpose.CONTROL)
        ended = execute(
            key, self.workflow, state=context["state"], input=context.get("input"),
            started_at=context.get("started_at"), time_scale=self.time_scale, timeout_s=self.timeout_s,
        )  # fmt: skip
        if ended.status != "done":
            raise TickFailed(ended)
        return ended

    async def execute_heavy_tick(self, tick: int, context: Mapping[str, Any]) -> ExecutionOutcome:
        """The same for an event loop, which stays free meanwhile."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(_pool, self.execute_heavy_tick_sync, tick, context)
