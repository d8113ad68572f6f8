"""The runner of ticks on copies of the state: nobody is served, so either system may go first, and neither waits for
the other's mercy.

In paired mode the order is drawn for each tick, so that neither side is favoured by what the other warmed up. With
the new system as control and mode record it always goes first, and the old one follows from its tape (reverse
shadow). What the first system calls is recorded, and the second replays it, latency included. Both draw the same
derived values.
"""

from __future__ import annotations

import datetime as dt
import threading
import uuid

from shadow.both import Both
from shadow.compare import not_compared
from shadow.observation import Observation
from shadow.plan import RunPlan
from shadow.sides import LegacySide
from shadow.store import RunRecord, Store, TickRecord
from shadow.trial import Tell, Trial
from tickover.canonical import Json, normalise
from tickover.errors import TickoverError
from tickover.execution import System
from tickover.workflow import Workflow


class PairedRunner:
    """Runs the ticks of one plan on copies, one tick at a time. `tell` gets each tick and its comparison."""

    def __init__(
        self, plan: RunPlan, record: RunRecord, workflow: Workflow, store: Store, legacy: LegacySide,
        reference: LegacySide, tell: Tell,
    ) -> None:  # fmt: skip
        self.plan, self.workflow, self.store = plan, workflow, store
        self._reference = reference
        self._both = Both(plan, record, workflow, store, (legacy,))
        self._trial = Trial(self._both, workflow, reference, tell)
        self._pause = threading.Event()

    def run(self) -> None:
        """Run what is left of the plan. A tick that was begun and not compared is run to its end: on copies that is
        safe."""
        known = {record.tick: record for record in self.store.ticks(self.plan.run)}
        open_ticks = set(self.store.uncompared(self.plan.run))
        state: Json = None
        due = dt.datetime.now(dt.UTC)
        interval = dt.timedelta(seconds=self.plan.interval_s)
        try:
            for tick in range(self.plan.count):
                if tick in known and tick not in open_ticks:
                    state = self._after(known[tick])
                    continue
                if state is None:
                    state = normalise(self.workflow.start_state(), self.workflow.normalise)
                if tick not in known:
                    now = dt.datetime.now(dt.UTC)
                    self._pause.wait(max(0.0, (due - now).total_seconds()))
                    self._claim(tick, due, state, interval)
                    due = max(due + interval, dt.datetime.now(dt.UTC))
                record = self.store.tick(self.plan.run, tick)
                assert record is not None
                if record.state_before is None:
                    self.store.set_start(self.plan.run, tick, state, self._stratum(tick, state))
                    record = self.store.tick(self.plan.run, tick)
                    assert record is not None
                state = self._run_tick(record)
        finally:
            self._both.close()
            self._reference.process.close()
            self._trial.close()

    def _claim(self, tick: int, due: dt.datetime, state: Json, interval: dt.timedelta) -> None:
        late_ms = max(0.0, (dt.datetime.now(dt.UTC) - due).total_seconds() * 1000)
        self.store.claim_tick(
            self.plan.run, tick, str(uuid.uuid4()), due_at=due, first=self.plan.first_of(tick).value, late_ms=late_ms,
            overran=interval > dt.timedelta(0) and late_ms > interval.total_seconds() * 1000,
        )  # fmt: skip
        self.store.set_start(self.plan.run, tick, state, self._stratum(tick, state))

    def _stratum(self, tick: int, state: Json) -> str | None:
        return self.workflow.stratum(tick, state) if self.workflow.stratum else None

    def _after(self, record: TickRecord) -> Json:
        """The state that the control left; the one it began with where it left none."""
        control = self.store.observation(self._trial.key(record.tick, self.plan.control))
        if control is not None and control.state_after is not None:
            return control.state_after
        return self.store.state(self.plan.run, record.state_before)

    def _run_tick(self, record: TickRecord) -> Json:
        state = self.store.state(self.plan.run, record.state_before)
        first = System(record.first)
        second = System.ASYNC if first is System.LEGACY else System.LEGACY
        seen: dict[System, Observation] = {}
        try:
            for system, records in ((first, True), (second, False)):
                key = self._trial.key(record.tick, system)
                seen[system] = self._both.observe(key, record, state, records=records)
            comparison = self._trial.judge(record, seen[self.plan.control], seen[self.plan.candidate])
        except TickoverError as error:
            comparison = not_compared(f"the tick was not run to its end by both systems: {error}")
        control = seen.get(self.plan.control)
        self._trial.conclude(record.tick, comparison, control, seen.get(self.plan.candidate))
        return state if control is None or control.state_after is None else control.state_after
