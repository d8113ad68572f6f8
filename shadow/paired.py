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
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from shadow.compare import Comparison, not_compared
from shadow.judging import Judging
from shadow.observation import Graph, Observation
from shadow.plan import RunPlan
from shadow.sides import AsyncSide, LegacySide, candidate_timeout_s
from shadow.store import RunRecord, Store, TickRecord
from shadow.surface import Surface
from tickover.boundary.observation import Mode as HostMode
from tickover.canonical import Json, normalise
from tickover.errors import TickoverError
from tickover.execution import ExecutionKey, Purpose, System
from tickover.ground.tape_store import PostgresTapeStore
from tickover.workflow import Workflow


class PairedRunner:
    """Runs the ticks of one plan on copies, one tick at a time. `tell` gets each tick and its comparison."""

    def __init__(
        self, plan: RunPlan, record: RunRecord, workflow: Workflow, store: Store, legacy: LegacySide,
        reference: LegacySide, tell: Callable[[int, Comparison], None],
    ) -> None:  # fmt: skip
        self.plan, self.record, self.workflow, self.store, self.tell = plan, record, workflow, store, tell
        self._legacy, self._reference = legacy, reference
        self._async = AsyncSide(
            workflow, time_scale=plan.time_scale, timeout_s=candidate_timeout_s(workflow, plan.time_scale)
        )
        self._judging = Judging(plan, store, Graph.of(workflow), reference, record.rules)
        self._tape = PostgresTapeStore()
        self._pause = threading.Event()
        self._surface = Surface(store, record)

    def run(self) -> None:
        """Run what is left of the plan. A tick that was begun and not compared is run to its end: on copies that is
        safe."""
        known = {record.tick: record for record in self.store.ticks(self.plan.run)}
        open_ticks = set(self.store.uncompared(self.plan.run))
        state: Json = None
        due = dt.datetime.now(dt.UTC)
        interval = dt.timedelta(seconds=self.plan.interval_s)
        try:
            for tick in range(self.plan.ticks):
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
            self._legacy.process.close()
            self._reference.process.close()
            self._judging.close()
            self._tape.close()

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
        control = self.store.observation(self._key(record.tick, self.plan.control))
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
                seen[system] = self._observe(record, system, state, records=records)
            control, candidate = seen[self.plan.control], seen[self.plan.candidate]
            comparison = self._judging.compare(record, control, candidate)
        except TickoverError as error:
            comparison = not_compared(f"the tick was not run to its end by both systems: {error}")
        control_seen = seen.get(self.plan.control)
        self.store.save_comparison(self.record, record.tick, comparison, control_seen, seen.get(self.plan.candidate))
        self.tell(record.tick, comparison)
        return state if control_seen is None or control_seen.state_after is None else control_seen.state_after

    def _observe(self, record: TickRecord, system: System, state: Json, *, records: bool) -> Observation:
        key = self._key(record.tick, system)
        known = self.store.observation(key)
        if known is not None:
            return known
        ran = (self._on_legacy if system is System.LEGACY else self._on_async)(key, record, state, records)
        seen = self.record.rules.redact(ran)
        self.store.save_observation(seen)
        return seen

    def _on_async(self, key: ExecutionKey, record: TickRecord, state: Json, records: bool) -> Observation:
        tape: dict[str, Any] = {"run": key.run, "tick": key.tick, "on_miss": "live", "latency": True}
        if records:
            tape["records"] = True
        elif key.purpose is Purpose.CANDIDATE:
            tape["on_miss"] = self.plan.on_miss
        return self._async.run(key, started_at=record.due_at, state=state, tape=tape)

    def _on_legacy(self, key: ExecutionKey, record: TickRecord, state: Json, records: bool) -> Observation:
        tape = [] if records else self._tape.of_tick(key.run, key.tick)
        on_miss = self.plan.on_miss if key.purpose is Purpose.CANDIDATE and not records else "live"
        seen, raw = self._legacy.run(
            key, HostMode.COPY, started_at=record.due_at, state=state, tape=tape, on_miss=on_miss
        )
        self.store.keep_calls(raw.calls)
        self._surface.add(raw.observed, raw.unobserved)
        return replace(seen, state_disturbed=True) if self._late(key.tick) else seen

    def _late(self, tick: int) -> bool:
        """Keep what abandoned steps of earlier ticks did since; whether one of them wrote."""
        disturbed = False
        for late in self._legacy.process.late_effects():
            self.store.keep_late(self._key(late.tick, System.LEGACY), tick, late.to_json())
            disturbed = disturbed or (bool(late.effects) and late.tick < tick)
        return disturbed

    def _key(self, tick: int, system: System) -> ExecutionKey:
        purpose = Purpose.CONTROL if system is self.plan.control else Purpose.CANDIDATE
        return ExecutionKey(run=self.plan.run, tick=tick, system=system, purpose=purpose)
