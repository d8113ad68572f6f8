"""Running one claimed step: context, limits, retries, fallback, completion."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import threading
from collections.abc import Mapping
from typing import Any

from async_tick.claims import Claim, Claims, Completion
from async_tick.limits import HARD_MARGIN_S, soft_limit
from async_tick.liveness import Liveness
from tickover.canonical import Json, canonical_text
from tickover.context import Absent, CallPort, TickContext
from tickover.doors import LiveDoors, RecordingDoors, TapeDoors, open_doors
from tickover.errors import ConfigurationError, ResultTooLarge, StepTimeout
from tickover.faults import Fault, armed, decode_error
from tickover.ground.settings import Settings
from tickover.ports import error_of
from tickover.workflow import Step, Workflow

log = logging.getLogger(__name__)

# A process with this many threads that ignored their limit is replaced: each of them still holds memory and sockets.
MAX_ABANDONED_THREADS = 8


def step_limits(workflow: Workflow, settings: Settings) -> dict[str, float]:
    """Step -> limit of one attempt in seconds at scale 1, settings before the workload.

    Raises ConfigurationError for a setting that names no step, or is not above 0.
    """
    limits = {step.name: step.timeout_s for step in workflow.steps}
    for name, limit in settings.step_timeouts.items():
        if name not in limits:
            raise ConfigurationError(
                f"TICKOVER_STEP_TIMEOUTS__{name.upper()} names no step of workflow {workflow.name!r}; "
                f"its steps are {', '.join(workflow.order)}"
            )
        if limit <= 0:
            raise ConfigurationError(f"TICKOVER_STEP_TIMEOUTS__{name.upper()} must be above 0 s, not {limit:g}")
        limits[name] = limit
    return limits


class StepRunner:
    """Runs claimed steps of one workflow in one worker process; its threads may share it."""

    def __init__(self, workflow: Workflow, claims: Claims, liveness: Liveness, settings: Settings) -> None:
        self.workflow, self._claims, self._liveness = workflow, claims, liveness
        self._max_bytes = settings.max_result_bytes
        self.limits = step_limits(workflow, settings)
        self._abandoned = 0

    def limit_s(self, step: str, time_scale: float) -> float:
        """Real seconds from the claim to the absolute deadline: the scaled soft limit and the margin."""
        return self.limits[step] * time_scale + HARD_MARGIN_S

    def claim(self, execution_id: str, step: str) -> Claim | None:
        """The step if it is there to be claimed. The deadline is that of scale 1 until the scale is known."""
        return self._claims.claim(execution_id, step, self.limit_s(step, 1.0))

    def run(self, claim: Claim, others: tuple[str, ...]) -> Completion:
        """Run the step and finish it; `others` may be claimed with the completion."""
        step = self.workflow.step(claim.step)
        limits = {name: self.limit_s(name, claim.ground.time_scale) for name in others}
        function = step.fallback if claim.phase == "fallback" and step.fallback is not None else step.run
        fault = armed(claim.ground.harness, claim.ground.execution_id)
        doors = self._doors(claim, step)
        context = self._context(claim, step, doors, fault)
        soft_s = self.limits[step.name] * claim.ground.time_scale
        self._liveness.hold(claim.token, soft_s + HARD_MARGIN_S, lambda: self._hard_limit(claim, step))
        try:
            try:
                with soft_limit(step.name, soft_s):
                    if claim.phase == "run" and step.when is not None and not step.when(context):
                        return self._complete(claim, "not_applicable", next_limits=limits)
                    with _fault_point(fault, claim):
                        result = function(context)
                text = self._checked(step, context, result)
            except Exception as error:  # noqa: BLE001 - a step may raise anything
                doors.keep()
                return self._failed(claim, step, error, limits)
            doors.keep()
            return self._complete(
                claim, "done", result=text, effects=context.effects, next_limits=limits,
                diverged=context.diverged,
                error=f"fallback after: {claim.failure}" if claim.phase == "fallback" else None,
            )  # fmt: skip
        finally:
            self._liveness.drop(claim.token)

    def _complete(self, claim: Claim, status: str, **more: Any) -> Completion:
        fault = armed(claim.ground.harness, claim.ground.execution_id)
        if fault is not None and status == "done":
            fault.committing(claim.step)
        done = self._claims.complete(claim, status, **more)
        if fault is not None:
            fault.note(
                "committed", step=claim.step, attempt=claim.attempt, phase=claim.phase, status=status,
                accepted=done.accepted,
            )  # fmt: skip
        return done

    def _give_back(self, claim: Claim, reason: str, **more: Any) -> bool:
        accepted = self._claims.retry(claim, reason, **more)
        fault = armed(claim.ground.harness, claim.ground.execution_id)
        if fault is not None:
            fault.note("given_back", step=claim.step, attempt=claim.attempt, reason=reason, accepted=accepted)
        return accepted

    def _doors(self, claim: Claim, step: Step) -> LiveDoors | RecordingDoors | TapeDoors:
        ground = claim.ground
        return open_doors(
            ground.harness, self.workflow, run=ground.run, tick=ground.tick, step=step.name, attempt=claim.attempt,
            execution_id=ground.execution_id, started_at=ground.started_at,
        )  # fmt: skip

    def _context(
        self, claim: Claim, step: Step, doors: LiveDoors | RecordingDoors | TapeDoors, fault: Fault | None
    ) -> TickContext:
        ground = claim.ground
        results: dict[str, Any] = dict(claim.results)
        for need, reason in claim.absent.items():
            results.setdefault(need, Absent(need, reason))
        call: CallPort = doors.call
        if fault is not None:
            # The tape is the drill's own: a step must not feel that it stands in the database that is restarted.
            doors.load()
            call = _broken_door(fault, step.name, doors.call)
        return TickContext(
            workflow=self.workflow, step=step, run=ground.run, tick=ground.tick, attempt=claim.attempt,
            state=ground.state, results=results, draws=doors.draws, call_port=call, input=ground.input,
            time_scale=ground.time_scale, failure=claim.failure,
        )  # fmt: skip

    def _checked(self, step: Step, context: TickContext, result: Any) -> str:
        text = canonical_text(result, self.workflow.normalise)
        sizes: Mapping[str, int] = {
            f"the result of step {step.name!r}": len(text.encode()),
            f"an effect of step {step.name!r}": max(
                (len(canonical_text(effect.payload).encode()) for effect in context.effects), default=0
            ),
        }
        for what, size in sizes.items():
            if size > self._max_bytes:
                raise ResultTooLarge(what, size, self._max_bytes)
        return text

    def _failed(self, claim: Claim, step: Step, error: Exception, limits: Mapping[str, float]) -> Completion:
        reason = f"{type(error).__name__}: {error}"[:2000]
        log.warning(
            "step.failed",
            extra={"run": claim.ground.run, "tick": claim.ground.tick, "step": step.name, "attempt": claim.attempt,
                   "reason": reason},
        )  # fmt: skip
        if claim.phase == "run" and step.retry.retries(error, claim.attempt):
            wait_s = step.retry.wait_s(claim.attempt, random.random()) * claim.ground.time_scale
            return Completion(accepted=self._give_back(claim, reason, wait_s=wait_s), ready=())
        if claim.phase == "run" and step.fallback is not None:
            accepted = self._give_back(claim, reason, fallback=True)
            return Completion(accepted=accepted, ready=(step.name,) if accepted else ())
        return self._complete(claim, "failed", error=reason, next_limits=limits)

    def _hard_limit(self, claim: Claim, step: Step) -> None:
        """The step ignored its soft limit: revoke its token, and end what executes it."""
        error = StepTimeout(f"step {step.name!r} did not stop at its limit")
        try:
            self._failed(claim, step, error, {})
        finally:
            self._abandoned += 1
            if PREFORK_CHILD.is_set() or self._abandoned >= MAX_ABANDONED_THREADS:
                os._exit(70)


def _fault_point(fault: Fault | None, claim: Claim) -> contextlib.AbstractContextManager[None]:
    """Where a drill's fault strikes a step; its fallback is spared."""
    if fault is None:
        return contextlib.nullcontext()
    if claim.phase == "fallback":
        fault.note("entered", step=claim.step, attempt=claim.attempt, phase=claim.phase)
        return contextlib.nullcontext()
    return fault.around(claim.step, claim.attempt, commits=True)


def _broken_door(fault: Fault, step: str, call: CallPort) -> CallPort:
    def broken(port: str, method: str, request: dict[str, Any]) -> Json:
        try:
            breaks = fault.calling(step)
        except OSError as error:
            raise error_of(error) from error
        answer = call(port, method, request)
        if breaks:
            raise decode_error(canonical_text(answer))
        return answer

    return broken


# Set in a prefork child, which is ended as a whole by a hard limit.
PREFORK_CHILD = threading.Event()
