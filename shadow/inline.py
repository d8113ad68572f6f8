"""A candidate run in this process, step after step in graph order, on a virtual clock: no engine, no waiting.

It answers what the port would do with a recorded tick, within milliseconds: what planted defects are proven with.
What only the engine has (claims, crashes, real parallel steps) it does not show.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shadow.observation import Observation, ObservedEffect, Outcome, StepObservation, StepStatus
from tickover.canonical import Json, normalise
from tickover.context import Absent, TickContext, thaw
from tickover.doors import LiveDoors
from tickover.draws import DerivedDraws, Draws, RecordedDraws
from tickover.effects import Effect
from tickover.errors import PortError, StepTimeout, TapeMiss
from tickover.execution import ExecutionKey
from tickover.ports import PortCall
from tickover.tape import Tape, TapeEntry, error_document
from tickover.workflow import Step, StepFunction, Workflow


@dataclass
class InlineTick:
    """What a run in this process was made with, and the calls that it made live.

    known: answers to calls that are on no tape, from an earlier run of the port; they are misses again, but nobody is
    asked again.
    """

    tape: Sequence[TapeEntry] = ()
    known: Sequence[TapeEntry] = ()
    draws: Mapping[str, Mapping[str, Any]] | None = None
    on_miss: str = "live"
    misses: list[TapeEntry] = field(default_factory=list)


class _VirtualDoors:
    """Calls from the tape, at once; how long they would have taken is summed up."""

    def __init__(self, workflow: Workflow, key: ExecutionKey, step: str, attempt: int, tick: InlineTick) -> None:
        self._workflow, self._key, self._step, self._attempt, self._inline = workflow, key, step, attempt, tick
        self._tape = Tape([entry for entry in tick.tape if entry.step == step], attempt=attempt)
        self._known = Tape([entry for entry in tick.known if entry.step == step], attempt=attempt)
        self._live = LiveDoors(workflow, key.run, key.tick, step, None)
        self.waited_ms = 0.0

    def call(self, port: str, method: str, request: dict[str, Any]) -> Json:
        """The recorded answer, or that of a live call. Raises PortError, TapeMiss."""
        call = PortCall(port=port, method=method, request=request)
        entry, request_hash, occurrence = self._tape.find(call)
        known, _, _ = self._known.find(call)
        if entry is not None:
            if entry.attempt == self._attempt:
                self.waited_ms += entry.latency_ms
            return entry.play()
        miss: dict[str, Any] = {
            "run": self._key.run, "tick": self._key.tick, "step": self._step, "port": port, "method": method,
            "request": request, "request_hash": request_hash, "occurrence": occurrence, "attempt": self._attempt,
            "recorded_by": self._key.system.value, "execution_id": str(self._key), "missed": True,
        }  # fmt: skip
        begun = time.monotonic()
        answer: Json = None
        error: PortError | None = None
        try:
            if known is not None:
                answer = known.play()
                return answer
            if self._inline.on_miss == "fail" or method in self._workflow.port(port).writes:
                raise TapeMiss(port, method)
            answer = self._live.call(port, method, request)
            return answer
        except PortError as failed:
            error = failed
            raise
        finally:
            latency_ms = (time.monotonic() - begun) * 1000
            self._inline.misses.append(
                TapeEntry(
                    **miss, answer=answer, error=error_document(error) if error else None, latency_ms=latency_ms
                )
            )


def run_inline(
    workflow: Workflow,
    key: ExecutionKey,
    *,
    state: Json,
    input: Json = None,
    tick: InlineTick,
    started_at: Any = None,
    time_scale: float = 1.0,
) -> Observation:
    """The observation of one tick, run in this process.

    A step is over its limit if what the tape says its calls took, and its own work, is: it is then retried, or
    failed, as the engine would.
    """
    runner = _Inline(workflow, key, state, input, tick, started_at, time_scale)
    begun = time.monotonic()
    outcome, error = runner.run()
    effects = sorted(runner.effects, key=lambda effect: effect.order)
    after = workflow.apply(thaw(state), effects) if outcome is Outcome.DONE else None
    return Observation(
        run=key.run,
        tick=key.tick,
        system=key.system,
        purpose=key.purpose,
        outcome=outcome,
        error=error,
        duration_ms=(time.monotonic() - begun) * 1000,
        started_at=started_at.isoformat() if started_at else "",
        visible=workflow.order,
        steps=runner.steps,
        effects=tuple(ObservedEffect(effect=effect) for effect in effects if effect.kind not in workflow.state_kinds),
        state_after=None if after is None else normalise(after, workflow.normalise),
        diverged={step: tuple(sorted(doors)) for step, doors in runner.diverged.items() if doors},
    )


class _Inline:
    def __init__(
        self,
        workflow: Workflow,
        key: ExecutionKey,
        state: Json,
        input: Json,
        tick: InlineTick,
        started_at: Any,
        time_scale: float,
    ) -> None:
        self.workflow, self.key, self.state, self.input, self.tick = workflow, key, state, input, tick
        self.started_at, self.time_scale = started_at, time_scale
        self.steps: dict[str, StepObservation] = {}
        self.effects: list[Effect] = []
        self.diverged: dict[str, set[str]] = {}

    def run(self) -> tuple[Outcome, str | None]:
        for name in self.workflow.order:
            step = self.workflow.step(name)
            seen = self._step(step)
            self.steps[name] = seen
            if seen.status is StepStatus.FAILED and step.critical:
                for later in self.workflow.order:
                    self.steps.setdefault(later, StepObservation(status=StepStatus.NOT_REACHED, attempts=0))
                return Outcome.FAILED, f"{name}: {seen.error}"
        return Outcome.DONE, None

    def _step(self, step: Step) -> StepObservation:
        if step.when is not None:
            context, _ = self._context(step, 1, None)
            if not step.when(context):
                return StepObservation(status=StepStatus.NOT_APPLICABLE, attempts=0)
        error = ""
        for attempt in range(1, step.retry.attempts + 1):
            try:
                result, duration_ms = self._attempt(step, step.run, attempt, None)
                return StepObservation(
                    status=StepStatus.DONE, result=result, attempts=attempt, duration_ms=duration_ms
                )
            except Exception as failed:  # noqa: BLE001 - steps may raise anything
                error = f"{type(failed).__name__}: {failed}"
                if not step.retry.retries(failed, attempt):
                    break
        if step.fallback is None:
            return StepObservation(status=StepStatus.FAILED, error=error, attempts=attempt)
        try:
            result, duration_ms = self._attempt(step, step.fallback, attempt, error)
        except Exception as failed:  # noqa: BLE001
            return StepObservation(
                status=StepStatus.FAILED, error=f"{type(failed).__name__}: {failed}", attempts=attempt
            )
        return StepObservation(
            status=StepStatus.FALLBACK, result=result, error=error, attempts=attempt, duration_ms=duration_ms
        )

    def _attempt(self, step: Step, function: StepFunction, attempt: int, failure: str | None) -> tuple[Json, float]:
        context, doors = self._context(step, attempt, failure)
        begun = time.monotonic()
        result = normalise(function(context), self.workflow.normalise)
        duration_ms = (time.monotonic() - begun) * 1000 + doors.waited_ms
        if duration_ms > step.timeout_s * self.time_scale * 1000:
            raise StepTimeout(f"step {step.name} took {duration_ms:.0f} ms of {step.timeout_s * self.time_scale} s")
        self.effects.extend(context.effects)
        return result, duration_ms

    def _context(self, step: Step, attempt: int, failure: str | None) -> tuple[TickContext, _VirtualDoors]:
        doors = _VirtualDoors(self.workflow, self.key, step.name, attempt, self.tick)
        derived = DerivedDraws(self.key.run, self.key.tick, step.name, self.started_at)
        draws: Draws = derived
        if self.tick.draws is not None:
            recorded = RecordedDraws(self.tick.draws.get(step.name, {}), derived)
            self.diverged[step.name] = recorded.diverged
            draws = recorded
        results = {need: self._result(need) for need in step.needs}
        call: Callable[[str, str, dict[str, Any]], Json] = doors.call
        context = TickContext(
            workflow=self.workflow,
            step=step,
            run=self.key.run,
            tick=self.key.tick,
            attempt=attempt,
            state=self.state,
            results=results,
            draws=draws,
            call_port=call,
            input=self.input,
            time_scale=self.time_scale,
            failure=failure,
        )
        return context, doors

    def _result(self, need: str) -> Any:
        seen = self.steps[need]
        if seen.status in (StepStatus.DONE, StepStatus.FALLBACK):
            return seen.result
        return Absent(need, seen.error or seen.status.value)
