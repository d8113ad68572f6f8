"""The two sides of a run: each runs a tick in its system and says what it saw."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from async_tick import orchestrator
from async_tick.outcome import ExecutionOutcome, StepOutcome
from shadow.observation import Observation, ObservedEffect, Outcome, StepObservation, StepStatus
from tickover.boundary import observation as seen_by_host
from tickover.boundary.child import LegacyProcess
from tickover.boundary.observation import LegacyObservation, LegacyRequest
from tickover.boundary.observation import Mode as HostMode
from tickover.canonical import Json, normalise
from tickover.context import thaw
from tickover.execution import ExecutionKey, Purpose, System
from tickover.tape import TapeEntry
from tickover.workflow import Workflow

_STATUS = {
    "done": StepStatus.DONE,
    "fallback": StepStatus.FALLBACK,
    "failed": StepStatus.FAILED,
    "not_applicable": StepStatus.NOT_APPLICABLE,
}


def from_legacy(
    seen: LegacyObservation, workflow: Workflow, purpose: Purpose, started_at: dt.datetime
) -> Observation:
    """What the legacy process saw, as an observation. Effects that only change the state are left to the state."""
    ended = seen.outcome is seen_by_host.Outcome.DONE
    visible = tuple(step for step in workflow.order if step in workflow.legacy_steps)
    steps = {step: _legacy_step(seen.steps.get(step), ended) for step in visible}
    return Observation(
        run=seen.run, tick=seen.tick, system=System.LEGACY, purpose=purpose, outcome=Outcome(seen.outcome.value),
        error=seen.error, duration_ms=seen.duration_ms, started_at=started_at.isoformat(), visible=visible,
        steps=steps,
        effects=tuple(
            ObservedEffect(effect=item.effect, late=item.late)
            for item in seen.effects
            if item.effect.kind not in workflow.state_kinds
        ),
        result=seen.result, state_after=seen.state_after, draws=dict(seen.draws), diverged=dict(seen.diverged),
        unobserved=seen.unobserved,
    )  # fmt: skip


def _legacy_step(step: seen_by_host.StepObservation | None, ended: bool) -> StepObservation:
    if step is None:
        return StepObservation(status=StepStatus.NOT_APPLICABLE if ended else StepStatus.NOT_REACHED, attempts=0)
    status = StepStatus.DONE
    if step.gave_up:
        status = StepStatus.GAVE_UP
    elif step.error or step.not_canonical:
        status = StepStatus.FAILED
    return StepObservation(
        status=status, result=step.result, error=step.error or step.not_canonical, started_ms=step.started_ms,
        duration_ms=step.duration_ms,
    )  # fmt: skip


def from_async(
    ended: ExecutionOutcome, workflow: Workflow, key: ExecutionKey, started_at: dt.datetime
) -> Observation:
    """What the new system's rows say, as an observation."""
    done = ended.status == "done"
    after = workflow.apply(thaw(ended.state), ended.effects) if done else None
    return Observation(
        run=key.run, tick=key.tick, system=System.ASYNC, purpose=key.purpose,
        outcome=Outcome.DONE if done else Outcome.FAILED, error=ended.error, duration_ms=ended.duration_ms or 0.0,
        started_at=started_at.isoformat(), visible=workflow.order,
        steps={name: _async_step(step, ended.created_at) for name, step in ended.steps.items()},
        effects=tuple(
            ObservedEffect(effect=effect) for effect in ended.effects if effect.kind not in workflow.state_kinds
        ),
        state_after=None if after is None else normalise(after, workflow.normalise),
        diverged={name: step.diverged for name, step in ended.steps.items() if step.diverged},
    )  # fmt: skip


def _async_step(step: StepOutcome, begun: dt.datetime) -> StepObservation:
    started_ms = None if step.started_at is None else (step.started_at - begun).total_seconds() * 1000
    return StepObservation(
        status=_STATUS.get(step.status, StepStatus.NOT_REACHED), result=step.result, error=step.error,
        attempts=step.attempts, recoveries=step.recoveries, started_ms=started_ms, duration_ms=step.duration_ms,
    )  # fmt: skip


class LegacySide:
    """The old system in a process of its own, in `home`. Its ticks run one at a time; threads may share it."""

    def __init__(
        self, reference: str, workflow: Workflow, home: Path, *, time_scale: float, env: Mapping[str, str]
    ) -> None:
        self.workflow = workflow
        self.process = LegacyProcess(
            reference, home, env, time_scale=time_scale, model_url=env.get("TICKOVER_MODEL_URL")
        )
        self._lock = threading.Lock()

    def run(
        self, key: ExecutionKey, mode: HostMode, *, started_at: dt.datetime, state: Json = None,
        tape: Sequence[TapeEntry] = (), draws: Mapping[str, Any] | None = None, on_miss: str = "live",
        faults: Mapping[str, Any] | None = None, draws_run: str | None = None,
    ) -> tuple[Observation, LegacyObservation]:  # fmt: skip
        """One tick; `state` (None: leave it) is written to its store before. faults: of a drill. draws_run: the run
        from whose name it derives what it draws, None for the key's."""
        with self._lock:
            if state is not None:
                self.process.write_state(state)
            seen = self.process.run_tick(
                LegacyRequest(
                    run=draws_run or key.run,
                    tick=key.tick,
                    mode=mode,
                    tape=tuple(tape),
                    on_miss=on_miss,
                    started_at=started_at,
                    draws=draws,
                    execution_id=str(key),
                    faults=faults,
                )
            )
        if draws_run is not None:
            seen = replace(seen, run=key.run, calls=tuple(replace(call, run=key.run) for call in seen.calls))
        return from_legacy(seen, self.workflow, key.purpose, started_at), seen


class AsyncSide:
    """The new system: its ticks run on whatever workers there are."""

    def __init__(self, workflow: Workflow, *, time_scale: float, timeout_s: float) -> None:
        self.workflow, self._time_scale, self._timeout_s = workflow, time_scale, timeout_s

    def run(
        self, key: ExecutionKey, *, started_at: dt.datetime, state: Json, tape: Mapping[str, Any] | None,
        draws: Mapping[str, Any] | None = None, faults: Mapping[str, Any] | None = None,
    ) -> Observation:  # fmt: skip
        """One tick, from the tape if there is one. faults: of a drill. Raises TickTimeout if it does not end in
        time."""
        source = self.workflow.source(key.tick, state) if self.workflow.source else None
        ended = orchestrator.execute(
            key, self.workflow, state=state, input=source, started_at=started_at, time_scale=self._time_scale,
            harness={"tape": tape, "draws": draws} | ({"faults": faults} if faults else {}),
            timeout_s=self._timeout_s,
        )  # fmt: skip
        return from_async(ended, self.workflow, key, started_at)


def candidate_timeout_s(workflow: Workflow, time_scale: float) -> float:
    """How long a tick of the new system is waited for: all attempts of all steps, and a minute for the machinery."""
    return 60 + time_scale * sum(step.timeout_s * step.retry.attempts for step in workflow.steps)
