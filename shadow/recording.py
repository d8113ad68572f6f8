"""Recording: what the old system did as control is kept, with what its abandoned steps still do afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace

from shadow.observation import Observation
from shadow.store import RunRecord, Store
from shadow.surface import Surface
from tickover.boundary.observation import Late, LegacyObservation
from tickover.execution import ExecutionKey, Purpose, System
from tickover.workflow import Workflow

# How long, in seconds at scale 1, what a step does after its caller gave up is waited for.
LATE_CUTOFF_S = 60.0


class Recording:
    """Keeps the control's ticks of one run, one at a time, and says which of them may be followed."""

    def __init__(self, record: RunRecord, workflow: Workflow, store: Store, surface: Surface) -> None:
        self.record, self._workflow, self._store, self._surface = record, workflow, store, surface
        self._late: dict[int, float] = {}

    def keep(self, seen: Observation, raw: LegacyObservation, late: Iterable[Late]) -> list[int]:
        """Keep what the control did with a tick, and what earlier ones did since; the ticks that may be followed now.

        A tick with a step that was given up waits: what that still calls belongs on the tape before the candidate
        asks for it.
        """
        self._surface.add(raw.observed, raw.unobserved)
        stratum = self._workflow.stratum(raw.tick, raw.state_before) if self._workflow.stratum else None
        if self._collect(late, raw.tick):
            seen = replace(seen, state_disturbed=True)
        self._store.save_observation(
            self.record.rules.redact(seen), calls=raw.calls, state_before=raw.state_before, stratum=stratum
        )
        if any(step.status == "gave_up" for step in seen.steps.values()):
            self._late[raw.tick] = time.monotonic() + LATE_CUTOFF_S * self.record.plan.time_scale
            return self._ready()
        return [*self._ready(), raw.tick]

    def wait(self, late: Iterable[Late], now_at: int) -> list[int]:
        """Keep what ticks did since they returned; the ticks whose time for that is over."""
        self._collect(late, now_at)
        return self._ready()

    @property
    def waits(self) -> bool:
        """Whether a tick waits for what it may still do."""
        return bool(self._late)

    def release(self) -> list[int]:
        """The ticks that wait still, which are waited for no longer."""
        ready = sorted(self._late)
        self._late.clear()
        return ready

    def _collect(self, reports: Iterable[Late], now_at: int) -> bool:
        """Keep what ticks did since they returned; whether an abandoned step of an earlier one wrote something."""
        disturbed = False
        for late in reports:
            key = ExecutionKey(run=late.run, tick=late.tick, system=System.LEGACY, purpose=Purpose.CONTROL)
            self._store.keep_late(key, now_at, late.to_json())
            self._store.keep_calls(late.calls)
            disturbed = disturbed or (bool(late.effects) and late.tick < now_at)
        return disturbed

    def _ready(self) -> list[int]:
        ready = sorted(tick for tick, deadline in self._late.items() if time.monotonic() > deadline)
        for tick in ready:
            del self._late[tick]
        return ready
