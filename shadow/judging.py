"""Judging a tick: the comparison of both systems, with a reference where the control's answer cannot judge."""

from __future__ import annotations

from shadow.compare import Comparison, judge, needs_reference
from shadow.misses import find_misses
from shadow.observation import Graph, Observation
from shadow.plan import RunPlan
from shadow.sides import LegacySide
from shadow.store import Store, TickRecord
from tickover.boundary.observation import Mode as HostMode
from tickover.execution import ExecutionKey, Purpose, System
from tickover.ground.tape_store import PostgresTapeStore


class Judging:
    """Compares ticks of one run. `copy` is the old system on a copy of its state, which references are run on."""

    def __init__(self, plan: RunPlan, store: Store, graph: Graph, copy: LegacySide) -> None:
        self._plan, self._store, self._graph, self._copy = plan, store, graph, copy
        self._tape = PostgresTapeStore()

    def close(self) -> None:
        """Close the connection to the tape."""
        self._tape.close()

    def compare(self, record: TickRecord, control: Observation, candidate: Observation) -> Comparison:
        """The comparison of a tick. Whoever ran second replayed the tape of the other, so its calls can be missing
        there."""
        tape = self._tape.of_tick(self._plan.run, record.tick)
        candidate_first = record.first == candidate.system.value and control.system is not candidate.system
        first, second = (candidate, control) if candidate_first else (control, candidate)
        misses = find_misses(tape, first, second, self._graph)
        if not needs_reference(control, candidate, self._graph, misses):
            return judge(control, candidate, self._graph, misses=misses)
        if control.system is not System.LEGACY:
            why = "the new system is not run again as a reference: it has retried already"
            return judge(control, candidate, self._graph, misses=misses, no_reference=why)
        key = ExecutionKey(
            run=self._plan.run, tick=record.tick, system=System.LEGACY, purpose=Purpose.REFERENCE
        )  # fmt: skip
        reference, raw = self._copy.run(
            key, HostMode.REFERENCE, started_at=record.due_at, tape=tape, draws=control.draws,
            state=self._store.state(self._plan.run, record.state_before),
        )  # fmt: skip
        self._store.save_observation(reference, calls=raw.calls)
        missed = any(call.missed for call in raw.calls)
        # What the control itself called amiss says nothing against a candidate that is held to the reference.
        misses = tuple(miss for miss in misses if not miss.by_control)
        return judge(control, candidate, self._graph, reference=reference, reference_missed=missed, misses=misses)
