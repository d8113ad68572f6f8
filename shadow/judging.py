"""Judging a tick: the comparison of both systems, with a reference where the control's answer cannot judge."""

from __future__ import annotations

from shadow.compare import Comparison, judge, needs_reference
from shadow.diff import Change
from shadow.misses import find_misses
from shadow.noise_floor import NoisyPlaces, is_noise_tick, noise_rows
from shadow.noise_store import noise_of, save_noise
from shadow.observation import Graph, Observation
from shadow.plan import RunPlan
from shadow.rules import RuleBook, Tolerance
from shadow.sides import LegacySide
from shadow.store import Store, TickRecord
from tickover.boundary.observation import Mode as HostMode
from tickover.execution import ExecutionKey, Purpose, System
from tickover.ground.tape_store import PostgresTapeStore
from tickover.tape import TapeEntry


class Judging:
    """Compares ticks of one run. `copy` is the old system on a copy of its state, which references are run on."""

    def __init__(
        self, plan: RunPlan, store: Store, graph: Graph, copy: LegacySide, rules: RuleBook
    ) -> None:  # fmt: skip
        self._plan, self._store, self._graph, self._copy, self.rules = plan, store, graph, copy, rules
        self._tape = PostgresTapeStore()
        self._noisy = NoisyPlaces(noise_of(store.engine, plan.run)) if plan.noise else None

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
        self._hear_noise(record, control, candidate, tape)
        if not needs_reference(control, candidate, self._graph, misses):
            return judge(control, candidate, self._graph, misses=misses, rules=self._rules)
        if control.system is not System.LEGACY:
            why = "the new system is not run again as a reference: it has retried already"
            return judge(control, candidate, self._graph, misses=misses, no_reference=why, rules=self._rules)
        reference, missed = self._again(record, control, tape, Purpose.REFERENCE)
        # What the control itself called amiss says nothing against a candidate that is held to the reference.
        misses = tuple(miss for miss in misses if not miss.by_control)
        return judge(
            control, candidate, self._graph, reference=reference, reference_missed=missed, misses=misses,
            rules=self._rules,
        )  # fmt: skip

    def _rules(self, step: str, area: str, change: Change) -> Tolerance | None:
        found = self.rules(step, area, change)
        return found if found is not None or self._noisy is None else self._noisy(step, area, change)

    def _hear_noise(
        self, record: TickRecord, control: Observation, candidate: Observation, tape: list[TapeEntry]
    ) -> None:
        """On a share of ticks: run the old system once more, and remember where it differs from itself."""
        if self._noisy is None or control.system is not System.LEGACY or not control.is_whole:
            return
        if is_noise_tick(self._plan, record.tick):
            again, missed = self._again(record, control, tape, Purpose.NOISE)
            if again.is_whole and not missed:
                rows = noise_rows(control, again, candidate, self._graph)
                save_noise(self._store.engine, self._plan.run, record.tick, rows)
                self._noisy.learn(rows)

    def _again(
        self, record: TickRecord, control: Observation, tape: list[TapeEntry], purpose: Purpose
    ) -> tuple[Observation, bool]:
        """The old system on a copy, from the tape and its own draws; whether it called what no tape had."""
        key = ExecutionKey(run=self._plan.run, tick=record.tick, system=System.LEGACY, purpose=purpose)
        seen, raw = self._copy.run(
            key, HostMode.REFERENCE, started_at=record.due_at, tape=tape, draws=control.draws,
            state=self._store.state(self._plan.run, record.state_before),
        )  # fmt: skip
        seen = self.rules.redact(seen)
        self._store.save_observation(seen, calls=raw.calls)
        return seen, any(call.missed for call in raw.calls)
