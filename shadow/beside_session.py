"""One run beside a loop: under one epoch, with one system as control, by one version of the code."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy.exc import DBAPIError

from async_tick import orchestrator
from async_tick.beside import Begun
from async_tick.connection import LOST
from async_tick.guarding import note_comparison
from shadow import beside_store
from shadow.both import Both
from shadow.compare import Comparison, Kind, not_compared
from shadow.followers import FOLLOWERS, Followers
from shadow.observation import Graph
from shadow.plan import RunPlan
from shadow.recording import Recording
from shadow.sides import LegacySide, from_async, from_legacy
from shadow.store import Store, UnknownRun
from shadow.trial import Trial
from tickover.boundary.observation import Late, LegacyObservation
from tickover.errors import ConfigurationError, InfrastructureError
from tickover.execution import ExecutionKey, Purpose, System
from tickover.workflow import Workflow

log = logging.getLogger(__name__)

# Ticks that may wait for their candidate; those beyond are recorded as not compared, so that a candidate that is
# slower than the control costs no more and more.
BACKLOG = 60
# How often a tick is followed anew after the harness failed, before it is recorded as not compared.
TRIES = 3
# The pause before that, in seconds.
PAUSE_S = 1.0
# What a database that is away raises.
_AWAY = (*LOST, DBAPIError, InfrastructureError)
# Comparisons that people are told of as they come.
_TOLD = (Kind.MISMATCH, Kind.CANDIDATE_FAILED, Kind.BOTH_FAILED, Kind.NOT_COMPARED)

KILLED = "the loop ended while the old system ran this tick, or before what it did was kept"
MOVED = "the route moved while the control ran this tick, which then counted for nothing"


class Session:
    """Records, follows and judges the ticks of one run. before: the tick that the loop has come to; what was earlier
    and has no comparison is followed at once.

    Its control serves in the loop; its candidate runs on workers, or on copies of the old system's state in `root`.
    """

    def __init__(
        self, plan: RunPlan, keys: Mapping[str, Any], workflow: Workflow, store: Store, root: Path,
        env: Mapping[str, str], say: Callable[[str], None], *, before: int,
    ) -> None:  # fmt: skip
        assert plan.loop is not None
        self.plan, self.loop, self.workflow, self.store, self._say = plan, plan.loop, workflow, store, say
        self._over = threading.Event()
        self._tries: Counter[int] = Counter()
        self._queued: set[int] = set()
        self._lock = threading.Lock()
        graph, holder = Graph.of(workflow), f"{socket.gethostname()}:{os.getpid()}"
        try:
            store.run(plan.run)
        except UnknownRun:
            store.create_run(plan, graph, keys, holder)
        with contextlib.ExitStack() as stack:
            stack.enter_context(store.hold(plan.run, holder))
            record = store.run(plan.run)
            store.set_status(plan.run, "running")
            copies = FOLLOWERS if plan.candidate is System.LEGACY else 0
            sides = [self._side(root / plan.run / name, env) for name in _homes(copies)]
            self._both = Both(plan, record, workflow, store, sides[1:], control_run=plan.loop)
            self._reference = sides[0]
            self.recording = Recording(record, workflow, store, self._both.surface)
            self._trial = Trial(self._both, workflow, self._reference, self._tell, self._judged)
            self._stack = stack.pop_all()
        self._followers = Followers(self._follow, self._failed)
        try:
            self._catch_up(before)
        except BaseException:
            self.finish(0.0)
            raise

    @property
    def has_room(self) -> bool:
        """Whether fewer ticks wait for their candidate than may wait."""
        return self._followers.waiting <= BACKLOG // 2

    def begin(self, begun: Begun) -> None:
        """Keep that a tick was scheduled, under the number that the loop gives it."""
        late_ms = max(0.0, (begun.started_at - begun.due_at).total_seconds() * 1000)
        self.store.claim_tick(
            self.plan.run, begun.tick, str(uuid.uuid4()), due_at=begun.due_at, first=self.plan.control.value,
            late_ms=late_ms, overran=0 < begun.interval_s * 1000 < late_ms,
        )  # fmt: skip

    def end(self, begun: Begun, seen: LegacyObservation | None, late: Sequence[Late]) -> None:
        """Keep what the control did with a tick, and have the candidate follow as soon as it may."""
        self.begin(begun)
        if seen is not None:
            observed = from_legacy(seen, self.workflow, Purpose.CONTROL, begun.started_at)
            ready = self.recording.keep(observed, seen, late)
        else:
            ready = [*self.recording.wait(late, begun.tick), begun.tick]
        for tick in ready:
            self._put(tick)

    def finish(self, patience_s: float, before: int | None = None) -> bool:
        """Follow what is left, and end; whether that was done in time. before: ticks from this one on are no concern
        of the run any more. What is left is followed when the run is gone on with."""
        done = False
        try:
            if before is not None:
                self._catch_up(before)
            for tick in self.recording.release():
                self._put(tick)
            done = patience_s > 0 and self._followers.finish(patience_s)
        finally:
            self._end(done, ended=done and before is not None)
        return done

    def _end(self, done: bool, *, ended: bool) -> None:
        self._over.set()
        self._followers.abandon()
        if not done:
            self._trial.abandon()
            self._reference.process.kill()
        self._both.close(at_once=not done)
        self._reference.process.close()
        self._trial.close()
        with self._stack:
            self.store.set_status(self.plan.run, "done" if ended else "interrupted")

    def _side(self, home: Path, env: Mapping[str, str]) -> LegacySide:
        return LegacySide(self.plan.workload, self.workflow, home, time_scale=self.plan.time_scale, env=env)

    def _catch_up(self, before: int) -> None:
        """Follow the earlier ticks that have no comparison, also those of which only the loop knows."""
        engine = self.store.engine
        for tick, claimed_at in beside_store.unclaimed(engine, self.loop, self.plan.run, before):
            self.store.claim_tick(
                self.plan.run, tick, str(uuid.uuid4()), due_at=claimed_at, first=self.plan.control.value, late_ms=0.0,
                overran=False,
            )  # fmt: skip
        for tick in beside_store.pending(engine, self.loop, self.plan.run, before):
            self._put(tick)

    def _put(self, tick: int) -> None:
        with self._lock:
            if tick in self._queued:
                return
            if self._followers.waiting < BACKLOG:
                self._queued.add(tick)
                self._followers.put(tick)
                return
        reason = f"{BACKLOG} ticks waited for the candidate already, and no more are kept waiting"
        control = self.store.observation(self._trial.key(tick, self.plan.control))
        self._trial.conclude(tick, not_compared(reason), control, None)

    def _follow(self, tick: int) -> None:
        if self.plan.control is System.ASYNC:
            self._observe_async(tick)
        elsewhere = not beside_store.counts(self.store.engine, self.loop, self.plan.run, tick)
        self._trial.compare(tick, MOVED if elsewhere else KILLED)
        with self._lock:
            self._queued.discard(tick)

    def _observe_async(self, tick: int) -> None:
        """Keep what the new system did with a tick that counts, as its rows say it: they outlive any process."""
        key = self._trial.key(tick, System.ASYNC)
        if self.store.observation(key) is not None:
            return
        if not beside_store.counts(self.store.engine, self.loop, self.plan.run, tick):
            return
        served = ExecutionKey(run=self.loop, tick=tick, system=System.ASYNC, purpose=Purpose.CONTROL)
        started_at = beside_store.instant_of(self.store.engine, str(served))
        if started_at is None:
            raise ConfigurationError(f"execution {served} is not there any more, so nothing can be compared with it")
        ended = orchestrator.outcome(str(served))
        seen = self._trial.record.rules.redact(from_async(ended, self.workflow, key, started_at))
        stratum = self.workflow.stratum(tick, ended.state) if self.workflow.stratum else None
        self.store.save_observation(seen, state_before=ended.state, stratum=stratum)

    def _failed(self, tick: int, error: Exception) -> None:
        """What failed in the harness: the tick is followed again, a few times; for as long as it takes where only the
        database is away."""
        if self._over.is_set():
            return
        reason = f"{type(error).__name__}: {error}"
        log.warning("beside.failed", extra={"run": self.plan.run, "tick": tick, "reason": reason})
        self._tries[tick] += not isinstance(error, _AWAY)
        if self._tries[tick] >= TRIES:
            self._say(f"tick {tick} could not be followed beside ({reason}); ticks go on")
            try:
                self._trial.conclude(tick, not_compared(f"the harness failed {TRIES} times: {reason}"), None, None)
                return
            except Exception as again:  # noqa: BLE001 - without a store nothing can be kept; it is tried again
                log.warning("beside.unkept", extra={"run": self.plan.run, "tick": tick, "reason": str(again)})
        if not self._over.wait(PAUSE_S):
            self._followers.put(tick)

    def _judged(self, tick: int, comparison: Comparison) -> None:
        note_comparison(self.loop, tick, self.plan.run, comparison.kind.value)

    def _tell(self, tick: int, comparison: Comparison) -> None:
        if comparison.kind in _TOLD:
            self._say(f"tick {tick} beside, {self.plan.candidate}: {comparison.kind}, {comparison.reason}")


def _homes(copies: int) -> list[str]:
    return ["reference", *(f"candidate-{number}" for number in range(copies))]
