"""The runner of a shadow run in record mode: the control serves, the candidate follows from the tape.

The control is never delayed by what follows: candidates run in threads behind it, and how far they are behind is
counted, not bounded. Everything that is needed to go on stands in PostgreSQL, so the runner can be killed at any
instant and resumed.
"""

from __future__ import annotations

import datetime as dt
import queue
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from shadow.compare import Comparison, not_compared
from shadow.judging import Judging
from shadow.observation import Graph, Observation
from shadow.plan import RunPlan
from shadow.sides import AsyncSide, LegacySide, candidate_timeout_s
from shadow.store import RunRecord, Store, TickRecord
from shadow.surface import Surface
from tickover.boundary.observation import Mode as HostMode
from tickover.errors import TickoverError
from tickover.execution import ExecutionKey, Purpose, System
from tickover.workflow import Workflow

# Candidates that run at the same time.
FOLLOWERS = 3
# How long, in seconds at scale 1, what a step does after its caller gave up is waited for.
LATE_CUTOFF_S = 60.0


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
        tell: Callable[[int, Comparison], None],
    ) -> None:  # fmt: skip
        self.plan, self.record, self.workflow, self.store, self.tell = plan, record, workflow, store, tell
        scale = plan.time_scale
        self.control = LegacySide(plan.workload, workflow, homes.control, time_scale=scale, env=env)
        self.copy = LegacySide(plan.workload, workflow, homes.reference, time_scale=scale, env=env)
        self.candidate = AsyncSide(workflow, time_scale=scale, timeout_s=candidate_timeout_s(workflow, scale))
        self._judging = Judging(plan, store, Graph.of(workflow), self.copy, record.rules)
        self._queue: queue.Queue[int | None] = queue.Queue()
        self._late: dict[int, float] = {}
        self._stop = threading.Event()
        self._errors: list[Exception] = []
        self._surface = Surface(store, record)

    def run(self) -> None:
        """Run what is left of the plan. Raises what a follower raised."""
        followers = [threading.Thread(target=self._follow, daemon=True) for _ in range(FOLLOWERS)]
        for follower in followers:
            follower.start()
        try:
            for tick in self.store.uncompared(self.plan.run):
                self._queue.put(tick)
            self._serve()
            self._await_late()
            for _ in followers:
                self._queue.put(None)
            for follower in followers:
                follower.join()
        finally:
            self._stop.set()
            self.control.process.close()
            self.copy.process.close()
            self._judging.close()
        if self._errors:
            raise self._errors[0]

    def _serve(self) -> None:
        done = {record.tick for record in self.store.ticks(self.plan.run)}
        due = dt.datetime.now(dt.UTC)
        interval = dt.timedelta(seconds=self.plan.interval_s)
        for tick in range(self.plan.ticks):
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
                self._serve_tick(tick, due)
            # A tick that overruns delays the next; the schedule is not made up for by haste.
            due = max(due + interval, dt.datetime.now(dt.UTC) if interval == dt.timedelta(0) else due)

    def _serve_tick(self, tick: int, due: dt.datetime) -> None:
        key = self._key(tick, System.LEGACY, Purpose.CONTROL)
        seen, raw = self.control.run(key, HostMode.RECORD, started_at=due)
        self._surface.add(raw.observed, raw.unobserved)
        stratum = self.workflow.stratum(tick, raw.state_before) if self.workflow.stratum else None
        if self._collect_late(tick):
            seen = replace(seen, state_disturbed=True)
        seen = self.record.rules.redact(seen)
        self.store.save_observation(seen, calls=raw.calls, state_before=raw.state_before, stratum=stratum)
        if any(step.status == "gave_up" for step in seen.steps.values()):
            # What an abandoned step still calls belongs on the tape before the candidate asks for it.
            self._late[tick] = time.monotonic() + LATE_CUTOFF_S * self.plan.time_scale
        else:
            self._queue.put(tick)

    def _collect_late(self, now_at: int) -> bool:
        """Keep what abandoned steps did since; whether one of an earlier tick wrote something."""
        disturbed = False
        for late in self.control.process.late_effects():
            key = self._key(late.tick, System.LEGACY, Purpose.CONTROL)
            self.store.keep_late(key, now_at, late.to_json())
            self.store.keep_calls(late.calls)
            disturbed = disturbed or (bool(late.effects) and late.tick < now_at)
        for tick, deadline in list(self._late.items()):
            if time.monotonic() > deadline:
                del self._late[tick]
                self._queue.put(tick)
        return disturbed

    def _await_late(self) -> None:
        while self._late and not self._errors:
            self._stop.wait(0.1)
            self._collect_late(self.plan.ticks)

    def _follow(self) -> None:
        while not self._errors and (tick := self._queue.get()) is not None:
            try:
                self._compare(tick)
            except Exception as error:  # noqa: BLE001 - it is raised again by the thread that waits for the followers
                self._errors.append(error)
                return

    def _compare(self, tick: int) -> None:
        record = self.store.tick(self.plan.run, tick)
        assert record is not None
        control = self.store.observation(self._key(tick, System.LEGACY, Purpose.CONTROL))
        candidate: Observation | None = None
        if control is None:
            comparison = not_compared("the runner ended while the control ran this tick, which is not run again")
        else:
            try:
                candidate = self._run_candidate(record, control)
                comparison = self._judging.compare(record, control, candidate)
            except TickoverError as error:
                comparison = not_compared(f"the candidate was not run to its end: {error}")
        self.store.save_comparison(self.record, tick, comparison, control, candidate)
        self.tell(tick, comparison)

    def _run_candidate(self, record: TickRecord, control: Observation) -> Observation:
        key = self._key(record.tick, System.ASYNC, Purpose.CANDIDATE)
        known = self.store.observation(key)
        if known is not None:
            return known
        tape = {"run": self.plan.run, "tick": record.tick, "on_miss": self.plan.on_miss, "latency": True}
        state = self.store.state(self.plan.run, record.state_before)
        ran = self.candidate.run(key, started_at=record.due_at, state=state, tape=tape, draws=control.draws)
        seen = self.record.rules.redact(ran)
        self.store.save_observation(seen)
        return seen

    def _key(self, tick: int, system: System, purpose: Purpose) -> ExecutionKey:
        return ExecutionKey(run=self.plan.run, tick=tick, system=system, purpose=purpose)
