"""The task `run_step`, registered once per step: claim, run, finish, publish what became ready, go on with a
successor."""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery import Celery

from async_tick.claims import Claims
from async_tick.connection import Connection
from async_tick.events import StepEvents
from async_tick.liveness import Liveness
from async_tick.steps import StepRunner
from tickover.faults import Fault, armed
from tickover.ground.settings import get_settings
from tickover.workflow import Workflow

log = logging.getLogger(__name__)

_runners: dict[tuple[int, str], StepRunner] = {}
_runners_lock = threading.Lock()


def task_name(workflow: Workflow, step: str) -> str:
    """The Celery task of a step."""
    return f"{workflow.name}.{step}"


def runner_of(workflow: Workflow) -> StepRunner:
    """This process's runner of the workflow, made (with its session lock taken) when first asked for."""
    with _runners_lock:
        found = _runners.get((os.getpid(), workflow.name))
        if found is None:
            settings = get_settings()
            liveness = Liveness(settings.lease_s, settings.heartbeat_s)
            liveness.start()
            claims = Claims(Connection("tickover worker"), liveness.owner, settings.lease_s)
            found = _runners[os.getpid(), workflow.name] = StepRunner(workflow, claims, liveness, settings)
        return found


def register_steps(app: Celery, workflow: Workflow) -> None:
    """Register one task per step of the workflow."""
    events = StepEvents(app)
    for step in workflow.steps:
        name = task_name(workflow, step.name)

        def run_step(self: Any, execution_id: str, step: str = step.name) -> None:
            """Run a step of an execution, if it is there to be claimed."""
            _run(app, workflow, events, self, execution_id, step)

        app.task(run_step, bind=True, name=name, ignore_result=True)


def _run(
    app: Celery, workflow: Workflow, events: StepEvents, task: Any, execution_id: str, step: str
) -> None:  # fmt: skip
    runner = runner_of(workflow)
    claim = runner.claim(execution_id, step)
    fault = None if claim is None else armed(claim.ground.harness, execution_id)
    told: str | None = None
    while claim is not None:
        begun = time.monotonic()
        done = runner.run(claim, _may_continue(app, workflow, claim.step))
        if done.next is None:
            publish(app, workflow, execution_id, done.ready, fault)
        elif done.ready:
            # Siblings are to start while this process goes on, and it need not wait for the broker to take each.
            _publisher(os.getpid()).submit(publish, app, workflow, execution_id, done.ready, fault)
        if told is not None:
            events.ended(told, begun)
        claim = done.next
        if claim is not None:
            told = f"{task.request.id}:{claim.step}"
            events.started(
                told, task_name(workflow, claim.step), (execution_id,), task.request.hostname, claim.attempt - 1
            )


@functools.cache
def _publisher(pid: int) -> ThreadPoolExecutor:
    """The thread of process `pid` that sends hints while a step runs."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="tickover-hints")


def _may_continue(app: Celery, workflow: Workflow, step: str) -> tuple[str, ...]:
    """Steps that this process may go on with in the same message: no rate limit, no shutdown asked for, and of a
    queue that its worker consumes, so that a worker for one queue never does the work of another.

    Successors, and siblings whose hint has not arrived: these need not wait for a busy worker to pass a message on.
    """
    from celery.worker import state

    if state.should_stop is not None or state.should_terminate is not None:
        return ()
    # Of a queue that is added or cancelled by remote control only the worker's main process hears.
    queues = {workflow.step(step).queue, *app.amqp.queues.consume_from}
    return tuple(
        other.name
        for other in workflow.steps
        if other.name != step
        and other.queue in queues
        and app.tasks[task_name(workflow, other.name)].rate_limit is None
    )


def publish(
    app: Celery, workflow: Workflow, execution_id: str, steps: Iterable[str], fault: Fault | None = None
) -> None:  # fmt: skip
    """Send a hint for each step. It never raises: a hint that cannot be sent is sent again by the sweeper."""
    for step in steps:
        for _ in range(1 if fault is None else fault.hints(step)):
            send_hint(app, task_name(workflow, step), execution_id, workflow.step(step).queue)


def send_hint(app: Celery, name: str, execution_id: str, queue: str) -> bool:
    """Whether the broker took a hint for the task `name` of an execution."""
    try:
        app.send_task(name, args=[execution_id], queue=queue, ignore_result=True, retry=False)
    except Exception as error:  # noqa: BLE001 - kombu's transports raise whatever their client raises
        log.warning("hint.unsent", extra={"execution": execution_id, "task": name, "reason": str(error)})
        return False
    return True
