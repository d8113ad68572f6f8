"""Both systems of a run: a tick is put through either of them, once, and what was seen is kept."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from shadow.observation import Observation
from shadow.plan import RunPlan
from shadow.sides import AsyncSide, LegacySide, candidate_timeout_s
from shadow.store import RunRecord, Store, TickRecord
from shadow.surface import Surface
from tickover.boundary.observation import Mode as HostMode
from tickover.canonical import Json
from tickover.execution import ExecutionKey, Purpose, System
from tickover.ground.tape_store import PostgresTapeStore
from tickover.tape import TapeEntry
from tickover.workflow import Workflow


class Abandoned(Exception):
    """A tick was cut off by the end of its runner: nothing of it is kept, and whoever goes on runs it again."""


class Both:
    """Runs executions of one run, from the tape or making it. Threads may share it.

    copies: the old system on copies of its state; as many of its ticks run at the same time. control_run: the run
    that a control which serves belongs to, on whose name its derived draws depend, and whose calls alone made the
    tape; None for the run itself.
    """

    def __init__(
        self, plan: RunPlan, record: RunRecord, workflow: Workflow, store: Store, copies: Sequence[LegacySide],
        *, control_run: str | None = None,
    ) -> None:  # fmt: skip
        self.plan, self.record, self.store = plan, record, store
        self._control_run = control_run
        scale = plan.time_scale
        self._async = AsyncSide(workflow, time_scale=scale, timeout_s=candidate_timeout_s(workflow, scale))
        self._sides = tuple(copies)
        self._free: queue.LifoQueue[LegacySide] = queue.LifoQueue()
        for side in copies:
            self._free.put(side)
        self._tape = PostgresTapeStore()
        self.abandoned = threading.Event()
        self.surface = Surface(store, record)

    def close(self, *, at_once: bool = False) -> None:
        """End the processes of the old system, and the connection to the tape. at_once: also in the midst of a
        tick."""
        for side in self._sides:
            if at_once:
                side.process.kill()
            side.process.close()
        self._tape.close()

    def observe(
        self, key: ExecutionKey, record: TickRecord, state: Json, *, records: bool = False,
        draws: Mapping[str, Any] | None = None,
    ) -> Observation:  # fmt: skip
        """What the key's system does with a tick from a state; what is known of an earlier call is not done again.

        records: it goes first and makes the tape. draws: what it is to draw, None for what the tick derives.
        """
        known = self.store.observation(key)
        if known is not None:
            return known
        if key.system is System.LEGACY:
            ran = self._on_legacy(key, record, state, records)
        else:
            ran = self._on_async(key, record, state, records, draws)
        if self.abandoned.is_set():
            raise Abandoned(str(key))
        seen = self.record.rules.redact(ran)
        self.store.save_observation(seen)
        return seen

    def _on_async(
        self, key: ExecutionKey, record: TickRecord, state: Json, records: bool, draws: Mapping[str, Any] | None
    ) -> Observation:
        tape: dict[str, Any] = {"run": key.run, "tick": key.tick, "on_miss": "live", "latency": True}
        if records:
            tape["records"] = True
        elif key.purpose is Purpose.CANDIDATE:
            tape["on_miss"] = self.plan.on_miss
        return self._async.run(key, started_at=record.due_at, state=state, tape=tape, draws=draws)

    def _on_legacy(self, key: ExecutionKey, record: TickRecord, state: Json, records: bool) -> Observation:
        tape = [] if records else self._tape.of_tick(key.run, key.tick)
        if self._control_run is not None:
            tape = last_attempts(tape)
        on_miss = self.plan.on_miss if key.purpose is Purpose.CANDIDATE and not records else "live"
        with self._copy() as side:
            seen, raw = side.run(
                key, HostMode.COPY, started_at=record.due_at, state=state, tape=tape, on_miss=on_miss,
                draws_run=self._control_run,
            )  # fmt: skip
            disturbed = self._late(side, key)
        self.store.keep_calls(raw.calls)
        self.surface.add(raw.observed, raw.unobserved)
        return replace(seen, state_disturbed=True) if disturbed else seen

    @contextmanager
    def _copy(self) -> Iterator[LegacySide]:
        side = self._free.get()
        try:
            yield side
        finally:
            self._free.put(side)

    def _late(self, side: LegacySide, key: ExecutionKey) -> bool:
        """Keep what abandoned steps of earlier ticks did since; whether one of them wrote."""
        disturbed = False
        for late in side.process.late_effects():
            self.store.keep_late(replace(key, tick=late.tick), key.tick, late.to_json())
            disturbed = disturbed or (bool(late.effects) and late.tick != key.tick)
        return disturbed


def last_attempts(entries: Iterable[TapeEntry]) -> list[TapeEntry]:
    """The calls that the new system's answers were made of: those of each step's last attempt, as the first one's.

    A control that serves calls anew in each attempt, and the old system has one attempt only.
    """
    tape = list(entries)
    last: dict[str, int] = {}
    for entry in tape:
        if entry.recorded_by == System.ASYNC.value:
            last[entry.step] = max(last.get(entry.step, 0), entry.attempt)
    return [
        replace(entry, attempt=1)
        for entry in tape
        if entry.recorded_by == System.ASYNC.value and entry.attempt == last[entry.step]
    ]
