"""A recorded tick run again through the port as it is now: in this process, from its tape, draws and start state."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace

from async_tick.steps import step_limits
from shadow.compare import Comparison, judge, not_compared
from shadow.diff import Change
from shadow.inline import InlineTick, run_inline
from shadow.misses import find_misses
from shadow.noise_floor import NoisyPlaces
from shadow.noise_store import noise_of
from shadow.observation import Graph, Observation
from shadow.rules import Tolerance
from shadow.store import RunRecord, Store
from tickover.errors import ConfigurationError
from tickover.execution import ExecutionKey, Purpose, System
from tickover.ground.settings import Settings
from tickover.ground.tape_store import PostgresTapeStore
from tickover.tape import TapeEntry
from tickover.workflow import Workflow

NO_REFERENCE = "the run kept no reference of this tick, and none is made here"


@dataclass(frozen=True, kw_only=True, slots=True)
class Replayed:
    """What came of a tick that was run again; immutable. was: the kind that the run stored, None where it has none or
    had the old system on trial. port: what the port did now, None where there was nothing to run it from."""

    tick: int
    comparison: Comparison
    was: str | None
    control: Observation | None
    port: Observation | None


class Replayer:
    """Runs ticks of one run again, one at a time; nothing is stored. on_miss: "fail" or "live", for calls that are on
    no tape. Rules, noise and references are those of the run. Close it."""

    def __init__(
        self, store: Store, record: RunRecord, workflow: Workflow, settings: Settings, *, on_miss: str = "fail"
    ) -> None:
        self._store, self._record, self._on_miss = store, record, on_miss
        limits = step_limits(workflow, settings)
        self._workflow = replace(
            workflow, steps=[replace(step, timeout_s=limits[step.name]) for step in workflow.steps]
        )
        self._graph = Graph.of(workflow)
        self._tape = PostgresTapeStore()
        self._noisy = NoisyPlaces(noise_of(store.engine, record.run)) if record.plan.noise else None

    def close(self) -> None:
        """Close the connection to the tape."""
        self._tape.close()

    def replay(self, tick: int) -> Replayed:
        """A tick run again and compared with the stored control. Raises ConfigurationError if the run has no such
        tick."""
        plan = self._record.plan
        kept = self._store.tick(plan.run, tick)
        if kept is None:
            raise ConfigurationError(f"run {plan.run} has no tick {tick}; `tickover report {plan.run}` counts them")
        stored = self._store.comparison(plan.run, tick)
        was = None if stored is None or plan.candidate is System.LEGACY else str(stored["kind"])
        seen = self._store.observations(plan.run, tick)
        control = seen.get(Purpose.CONTROL)
        if control is None:
            why = "nothing is known of the control on this tick"
            return Replayed(tick=tick, comparison=not_compared(why), was=was, control=None, port=None)
        entries = self._tape.of_tick(plan.run, tick)
        # What the port called amiss in the run answers it again, and is a miss again.
        known = [entry for entry in entries if entry.missed and entry.recorded_by == System.ASYNC]
        tape = [entry for entry in entries if entry not in known]
        state = self._store.state(plan.run, kept.state_before)
        inline = InlineTick(
            tape=tape, known=known, on_miss=self._on_miss,
            draws=control.draws if control.system is System.LEGACY else None,
        )  # fmt: skip
        # Whoever served beside this run derived its draws under the loop's name.
        name = plan.loop if plan.loop is not None and control.system is System.ASYNC else plan.run
        key = ExecutionKey(run=name, tick=tick, system=System.ASYNC, purpose=Purpose.BACKTEST)
        ran = run_inline(
            self._workflow, key, state=state, tick=inline, started_at=dt.datetime.fromisoformat(control.started_at),
            input=self._workflow.source(tick, state) if self._workflow.source else None,
            time_scale=plan.time_scale,
        )  # fmt: skip
        port = self._record.rules.redact(replace(ran, run=plan.run))
        comparison = self._judge([*tape, *inline.misses], control, port, seen.get(Purpose.REFERENCE), known)
        return Replayed(tick=tick, comparison=comparison, was=was, control=control, port=port)

    def _judge(
        self, tape: Sequence[TapeEntry], control: Observation, port: Observation, reference: Observation | None,
        known: Sequence[TapeEntry],
    ) -> Comparison:  # fmt: skip
        misses = find_misses(tape, control, port, self._graph)
        missed = any(
            entry.missed and entry.execution_id is not None and f"/{Purpose.REFERENCE.value}/" in entry.execution_id
            for entry in (*tape, *known)
        )
        return judge(
            control, port, self._graph, misses=misses, rules=self._rules, reference=reference,
            reference_missed=missed, no_reference=NO_REFERENCE,
        )  # fmt: skip

    def _rules(self, step: str, area: str, change: Change) -> Tolerance | None:
        found = self._record.rules(step, area, change)
        return found if found is not None or self._noisy is None else self._noisy(step, area, change)
