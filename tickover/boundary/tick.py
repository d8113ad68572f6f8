"""One tick of legacy, run and seen."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tickover.boundary import files
from tickover.boundary.clock import instant_text
from tickover.boundary.effects import Numbering, observed_effects
from tickover.boundary.observation import (
    Late,
    LegacyObservation,
    LegacyRequest,
    Mode,
    Outcome,
)
from tickover.boundary.session import Book, Recorder, guarded, session
from tickover.boundary.steps import step_observation
from tickover.canonical import Json, normalise
from tickover.draws import RecordedDraws
from tickover.errors import NotCanonical
from tickover.workflow import Workflow

# How many ticks back late effects are still looked for.
_REMEMBERED_TICKS = 16


class TickRunner:
    """Runs ticks of one legacy callable in this process, one at a time."""

    def __init__(self, workflow: Workflow, legacy: Callable[[int], Any], home: Path) -> None:
        self._workflow, self._legacy, self._home = workflow, legacy, home
        self._recent: list[tuple[Recorder, Numbering, list[int]]] = []

    def run(self, request: LegacyRequest) -> LegacyObservation:
        """What legacy did with the tick. Raises nothing that legacy raises."""
        recorder = Recorder(request, self._home)
        session.recorder = recorder
        files.flush_others(recorder)
        state_before = self._state()
        outcome, error, value, not_canonical = Outcome.DONE, None, None, None
        recorder.started_s = time.perf_counter()
        try:
            with self._fault_point(recorder):
                value = self._legacy(request.tick)
                if inspect.iscoroutine(value):
                    value = asyncio.run(value)
        except (Exception, SystemExit) as raised:  # noqa: BLE001 - whatever legacy raises is its outcome
            outcome, error = Outcome.FAILED, f"{type(raised).__name__}: {raised}"
        duration_s = time.perf_counter() - recorder.started_s
        with guarded("result"):
            try:
                value = normalise(value, self._workflow.normalise)
            except NotCanonical as refused:
                value, not_canonical = None, str(refused)
        files.look(recorder)
        recorder.ended_s = duration_s
        for run in recorder.steps.values():
            run.gave_up = run.gave_up or run.running > 0
        numbering, seen = Numbering(), [len(recorder.notes), len(recorder.calls)]
        effects = observed_effects(self._workflow, request.tick, recorder.notes[: seen[0]], numbering)
        self._recent = [*self._recent[-_REMEMBERED_TICKS:], (recorder, numbering, seen)]
        return LegacyObservation(
            run=request.run,
            tick=request.tick,
            mode=request.mode,
            outcome=outcome,
            error=error,
            result=value,
            not_canonical=not_canonical,
            steps={name: step_observation(run) for name, run in recorder.steps.items()},
            effects=tuple(effects),
            calls=tuple(recorder.calls[: seen[1]]),
            draws={name: _drawn(book) for name, book in list(recorder.books.items())}
            if request.mode is Mode.RECORD
            else {},
            diverged={
                name: tuple(sorted(book.draws.diverged))
                for name, book in list(recorder.books.items())
                if isinstance(book.draws, RecordedDraws) and book.draws.diverged
            },
            state_before=state_before,
            state_after=self._state(),
            duration_ms=duration_s * 1000,
            unobserved=tuple(recorder.unobserved),
            observed=tuple(session.installed),
            harness_errors=tuple(recorder.errors),
            pid=os.getpid(),
        )

    def late(self) -> list[Late]:
        """What ticks that have returned did since the last time this was asked, tick by tick; empty if nothing."""
        reports: list[Late] = []
        for recorder, numbering, seen in self._recent:
            files.look(recorder)
            notes, calls = recorder.notes[seen[0] :], recorder.calls[seen[1] :]
            seen[0] += len(notes)
            seen[1] += len(calls)
            effects = observed_effects(self._workflow, recorder.request.tick, notes, numbering)
            steps = {}
            for name, run in recorder.steps.items():
                ended = run.ended_s
                if ended is not None and ended > (recorder.ended_s or 0) and not run.reported_late:
                    run.reported_late = True
                    steps[name] = step_observation(run)
            if effects or calls or steps:
                reports.append(
                    Late(
                        run=recorder.request.run,
                        tick=recorder.request.tick,
                        effects=tuple(effects),
                        calls=tuple(calls),
                        steps=steps,
                    )
                )
        return reports

    def _fault_point(self, recorder: Recorder) -> contextlib.AbstractContextManager[None]:
        """Where a drill's fault strikes an old system whose steps are not known."""
        fault = recorder.fault
        if fault is None or fault.step in self._workflow.legacy_steps:
            return contextlib.nullcontext()
        return fault.around(fault.step)

    def _state(self) -> Json:
        if self._workflow.read_state is None:
            return None
        with guarded("read_state"):
            return normalise(self._workflow.read_state(self._home), self._workflow.normalise)
        return None


def _drawn(book: Book) -> dict[str, Any]:
    return {
        "now": [instant_text(noted) for noted in list(book.noted_now)],
        "random": list(book.noted_random),
        "ids": list(book.noted_ids),
    }
