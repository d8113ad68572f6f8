"""The loop: one tick after another through the system in charge, adopted and delivered."""

from __future__ import annotations

import datetime as dt
import importlib.util
import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from async_tick import orchestrator
from async_tick.adoption import (
    ROUTE_LOCK,
    Charge,
    Fenced,
    adopt,
    adopt_state,
    latest_state,
    owner_of,
    take_charge,
    who_is_next,
)
from async_tick.delivery import deliver_pending
from async_tick.listener import listener
from async_tick.outcome import ExecutionOutcome
from async_tick.route import read_route
from tickover.boundary.child import LegacyProcess
from tickover.boundary.observation import LegacyRequest, Outcome
from tickover.canonical import Json, normalise
from tickover.draws import seed_of
from tickover.errors import ConfigurationError
from tickover.execution import ExecutionKey, Purpose, System
from tickover.ground.database import connect_raw
from tickover.workflow import Workflow

# How often a tick that runs looks whether the route has moved, in seconds: as long a rollback waits for the loop.
LOOK_S = 0.25


@dataclass(frozen=True, kw_only=True, slots=True)
class TickEnd:
    """How a tick that counts ended; immutable. status: done, failed, or lost (its runner or its process died)."""

    tick: int
    owner: System
    status: str
    duration_ms: float
    effects: int


Tell = Callable[[TickEnd, bool], None]


def legacy_is_there(workflow: Workflow) -> bool:
    """Whether the old system can still be run: a finished migration deletes it."""
    if workflow.legacy is None or workflow.read_state is None or workflow.write_state is None:
        return False
    if not isinstance(workflow.legacy, str):
        return True
    try:
        return importlib.util.find_spec(workflow.legacy.partition(":")[0]) is not None
    except ModuleNotFoundError:
        return False


class Loop:
    """Runs a workflow every `every_s` seconds (at scale 1) under the name `run`. One process per run at a time.

    Each tick goes to the system in charge. It goes on where it was: after the last adopted tick, and with the
    execution that was begun, which is joined. A tick that the old system had begun is not run again: it is lost.
    """

    def __init__(
        self, workflow: Workflow, workload: str, run: str, home: Path, *, every_s: float, time_scale: float,
        env: Mapping[str, str] | None = None, model_url: str | None = None,
    ) -> None:  # fmt: skip
        self.workflow, self.run, self.home = workflow, run, home
        self.interval = dt.timedelta(seconds=every_s * time_scale)
        self.time_scale = time_scale
        self.stopped = threading.Event()
        self._has_legacy = legacy_is_there(workflow)
        self._legacy = LegacyProcess(workload, home, env, time_scale=time_scale, model_url=model_url)

    def serve(self, ticks: int | None, tell: Tell) -> int:
        """Run ticks until `ticks` are done (None: until `stopped` is set) and return how many were.

        `tell` gets how each tick ended, and whether it overran its interval. Raises ConfigurationError if another
        process serves the run.
        """
        with closing(connect_raw(application_name="tickover loop")) as connection, closing(self._legacy):
            with connection, connection.cursor() as do:
                do.execute("SELECT pg_try_advisory_lock(%s)", (loop_lock(self.run),))
                if not do.fetchall()[0][0]:
                    raise ConfigurationError(
                        f"another process serves run {self.run!r}; stop it, or name another --run"
                    )
            done = 0
            due = dt.datetime.now(dt.UTC)
            while not self.stopped.is_set() and (ticks is None or done < ticks):
                self.stopped.wait(max(0.0, (due - dt.datetime.now(dt.UTC)).total_seconds()))
                if self.stopped.is_set():
                    break
                try:
                    ended = self.tick(connection)
                except Fenced:
                    # The route has moved under the tick: whoever is in charge now runs it, at once.
                    continue
                now = dt.datetime.now(dt.UTC)
                overran = self.interval > dt.timedelta(0) and now > due + self.interval
                # A tick that overruns delays the next; what was missed is not made up for.
                due = now if overran else due + self.interval
                done += 1
                tell(ended, overran)
        return done

    def tick(self, connection: Any) -> TickEnd:
        """Run, adopt and deliver the next tick. connection: the loop's own, not in autocommit. Raises Fenced."""
        number, state = latest_state(self.run, self.workflow, connection)
        if number == 0:
            state = self._first_state(state)
        key = ExecutionKey(run=self.run, tick=number, system=System.ASYNC, purpose=Purpose.CONTROL)
        # Held for as long as the old system runs: what that does to the world cannot be fenced, so a move waits.
        self._lock(connection, "pg_advisory_lock_shared")
        held = True
        try:
            self._hand_over(number, state, connection)
            charge = take_charge(
                self.run, number, str(key), str(uuid.uuid4()), legacy_is_there=self._has_legacy, connection=connection
            )
            if charge.owner is System.LEGACY:
                return self._on_legacy(charge, state, connection)
            self._lock(connection, "pg_advisory_unlock_shared")
            held = False
            return self._on_async(charge, key, state, connection)
        finally:
            if held:
                self._lock(connection, "pg_advisory_unlock_shared")

    def _lock(self, connection: Any, function: str) -> None:
        with connection, connection.cursor() as do:
            do.execute("SET LOCAL statement_timeout = 0")
            do.execute(f"SELECT {function}(%s)", (ROUTE_LOCK,))

    def _first_state(self, start: Json) -> Json:
        """What the first tick begins with: what stands in the home, else the workload's own start."""
        if self.workflow.read_state is None or not self.home.is_dir() or not any(self.home.iterdir()):
            return start
        return normalise(self.workflow.read_state(self.home), self.workflow.normalise)

    def _hand_over(self, tick: int, state: Json, connection: Any) -> None:
        """Bring the old system's store up to date, if it is about to run a tick after one that it did not run.

        Before the tick is claimed: a tick that the old system was seen to have begun means that its store is whole.
        """
        owner, begun = who_is_next(self.run, tick, legacy_is_there=self._has_legacy, connection=connection)
        if owner is not System.LEGACY or begun:
            return
        if tick == 0 or owner_of(self.run, tick - 1, connection) is not System.LEGACY:
            self._legacy.write_state(state)

    def _on_legacy(self, charge: Charge, state: Json, connection: Any) -> TickEnd:
        if charge.begun_before:
            adopt_state(charge, Outcome.LOST.value, self._legacy.read_state(), connection=connection)
            return TickEnd(
                tick=charge.tick, owner=System.LEGACY, status=Outcome.LOST.value, duration_ms=0.0, effects=0
            )
        seen = self._legacy.run_tick(
            LegacyRequest(run=self.run, tick=charge.tick, started_at=dt.datetime.now(dt.UTC))
        )  # fmt: skip
        after = seen.state_after if seen.state_after is not None else self._legacy.read_state()
        adopt_state(charge, seen.outcome.value, after, connection=connection)
        return TickEnd(
            tick=charge.tick, owner=System.LEGACY, status=seen.outcome.value, duration_ms=seen.duration_ms,
            effects=len(seen.effects),
        )  # fmt: skip

    def _on_async(self, charge: Charge, key: ExecutionKey, state: Json, connection: Any) -> TickEnd:
        source = self.workflow.source(charge.tick, state) if self.workflow.source else None
        orchestrator.start(key, self.workflow, state=state, input=source, time_scale=self.time_scale)
        ended = self._await(str(key), charge.epoch)
        adopt(charge, self.workflow, ended, connection)
        deliver_pending(self.run, self.workflow, self.home)
        return TickEnd(
            tick=charge.tick, owner=System.ASYNC, status=ended.status, duration_ms=ended.duration_ms or 0.0,
            effects=len(ended.effects),
        )  # fmt: skip

    def _await(self, execution_id: str, epoch: int) -> ExecutionOutcome:
        """The outcome, once it is there. Raises Fenced if the route moves meanwhile: nothing is waited for then."""
        while not listener().wait(execution_id, LOOK_S):
            if read_route().epoch != epoch:
                raise Fenced(f"the route has moved while {execution_id} ran; it no longer counts")
        return orchestrator.outcome(execution_id)


def loop_lock(run: str) -> int:
    """The number of the advisory lock that the loop of a run holds."""
    return seed_of("loop", run) % 2**63
