"""The runner of a shadow run in record mode: the control serves, the candidate follows from the tape.

The control is never delayed by what follows: candidates run in threads behind it, and how far they are behind is
counted, not bounded. Everything that is needed to go on stands in PostgreSQL, so the runner can be killed at any
instant and resumed.
"""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path

from shadow.both import Both
from shadow.followers import Followers
from shadow.plan import RunPlan
from shadow.recording import Recording
from shadow.sides import LegacySide
from shadow.store import RunRecord, Store
from shadow.trial import Tell, Trial
from tickover.boundary.observation import Mode as HostMode
from tickover.execution import System
from tickover.workflow import Workflow


@dataclass(frozen=True, kw_only=True)
class Homes:
    """Where the old system lives: the one that serves, and a copy for references."""

    control: Path
    reference: Path


class RecordRunner:
    """Runs the ticks of one plan, legacy as control. `tell` gets each tick and its comparison, from several
    threads."""

    def __init__(
        self, plan: RunPlan, record: RunRecord, workflow: Workflow, store: Store, homes: Homes, env: dict[str, str],
        tell: Tell,
    ) -> None:  # fmt: skip
        self.plan, self.store = plan, store
        scale = plan.time_scale
        self.control = LegacySide(plan.workload, workflow, homes.control, time_scale=scale, env=env)
        self.copy = LegacySide(plan.workload, workflow, homes.reference, time_scale=scale, env=env)
        self._both = Both(plan, record, workflow, store, ())
        self._trial = Trial(self._both, workflow, self.copy, tell)
        self._recording = Recording(record, workflow, store, self._both.surface)
        self._stop = threading.Event()
        self._errors: list[Exception] = []

    def run(self) -> None:
        """Run what is left of the plan. Raises what a follower raised."""
        followers = Followers(self._trial.compare, lambda tick, error: self._errors.append(error))
        try:
            for tick in self.store.uncompared(self.plan.run):
                followers.put(tick)
            self._serve(followers)
            self._await_late(followers)
            if self._errors:
                followers.abandon()
            followers.finish()
        finally:
            followers.abandon()
            self._stop.set()
            self.control.process.close()
            self.copy.process.close()
            self._both.close()
            self._trial.close()
        if self._errors:
            raise self._errors[0]

    def _serve(self, followers: Followers) -> None:
        done = {record.tick for record in self.store.ticks(self.plan.run)}
        due = dt.datetime.now(dt.UTC)
        interval = dt.timedelta(seconds=self.plan.interval_s)
        for tick in range(self.plan.count):
            if tick in done:
                continue
            if self._errors:
                return
            now = dt.datetime.now(dt.UTC)
            if now < due:
                self._stop.wait((due - now).total_seconds())
            late_ms = max(0.0, (dt.datetime.now(dt.UTC) - due).total_seconds() * 1000)
            overran = interval > dt.timedelta(0) and late_ms > interval.total_seconds() * 1000
            token = str(uuid.uuid4())
            if self.store.claim_tick(
                self.plan.run, tick, token, due_at=due, first=System.LEGACY.value, late_ms=late_ms, overran=overran
            ):
                for ready in self._serve_tick(tick, due):
                    followers.put(ready)
            # A tick that overruns delays the next; the schedule is not made up for by haste.
            due = max(due + interval, dt.datetime.now(dt.UTC) if interval == dt.timedelta(0) else due)

    def _serve_tick(self, tick: int, due: dt.datetime) -> list[int]:
        seen, raw = self.control.run(self._trial.key(tick, System.LEGACY), HostMode.RECORD, started_at=due)
        return self._recording.keep(seen, raw, self.control.process.late_effects())

    def _await_late(self, followers: Followers) -> None:
        while self._recording.waits and not self._errors:
            self._stop.wait(0.1)
            for ready in self._recording.wait(self.control.process.late_effects(), self.plan.count):
                followers.put(ready)
