"""The task `run_step`, registered once per step: claim, run, finish, publish what became ready, go on with a
successor."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable
from typing import Any

from celery import Celery

from async_tick.claims import Claim, Claims
from async_tick.connection import Connection
from async_tick.liveness import Liveness
from async_tick.steps import StepRunner
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
    for step in workflow.steps:
        name = task_name(workflow, step.name)

        def run_step(self: Any, execution_id: str, step: str = step.name) -> None:
            """Run a step of an execution, if it is there to be claimed."""
            _run(app, workflow, self, execution_id, step)

        app.task(run_step, bind=True, name=name, ignore_result=True)


def _run(app: Celery, workflow: Workflow, task: Any, execution_id: str, step: str) -> None:
    runner = runner_of(workflow)
    claim = runner.claim(execution_id, step)
    while claim is not None:
        step = claim.step
        done = runner.run(claim, _may_continue(app, workflow, step))
        publish(app, workflow, execution_id, done.ready)
        claim = done.next
        if claim is not None:
            _tell(app, workflow, task, claim)


def _may_continue(app: Celery, workflow: Workflow, step: str) -> tuple[str, ...]:
    """Successors that this process may go on with in the same message: same queue, no rate limit, no shutdown asked
    for."""
    from celery.worker import state

    if state.should_stop is not None or state.should_terminate is not None:
        return ()
    queue = workflow.step(step).queue
    return tuple(
        later.name
        for later in workflow.steps
        if step in later.needs
        and later.queue == queue
        and app.tasks[task_name(workflow, later.name)].rate_limit is None
    )


def publish(app: Celery, workflow: Workflow, execution_id: str, steps: Iterable[str]) -> None:
    """Send a hint for each step. It never raises: a hint that cannot be sent is sent again by the sweeper."""
    for step in steps:
        try:
            app.send_task(
                task_name(workflow, step), args=[execution_id], queue=workflow.step(step).queue, ignore_result=True,
                retry=False,
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001 - kombu's transports raise whatever their client raises
            log.warning("hint.unsent", extra={"execution": execution_id, "step": step, "reason": str(error)})


def _tell(app: Celery, workflow: Workflow, task: Any, claim: Claim) -> None:
    """Tell monitors of a step that goes on in the same message; they would not see it otherwise."""
    if not app.conf.worker_send_task_events:
        return
    identity = f"{task.request.id}:{claim.step}"
    try:
        with app.events.default_dispatcher(hostname=task.request.hostname) as dispatcher:
            dispatcher.send(
                "task-received", uuid=identity, name=task_name(workflow, claim.step),
                args=repr((claim.ground.execution_id,)), kwargs="{}", retries=claim.attempt - 1,
            )  # fmt: skip
            dispatcher.send("task-started", uuid=identity)
    except Exception as error:  # noqa: BLE001 - monitoring must not fail a step
        log.debug("event.unsent", extra={"reason": str(error)})
