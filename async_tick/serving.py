"""Serving: one tick, run by the system in charge, adopted, and its effects delivered."""

from __future__ import annotations

import datetime as dt
import importlib.util
import logging
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from async_tick import orchestrator
from async_tick.adoption import (
    BOUNDARY_LOCK,
    ROUTE_LOCK,
    Charge,
    Fenced,
    adopt,
    adopt_state,
    latest_state,
    take_charge,
    who_is_next,
)
from async_tick.beside import Begun, Beside, recording
from async_tick.delivery import deliver_pending, waits
from async_tick.handover import has_content, is_behind, mark_written
from async_tick.listener import listener
from async_tick.outcome import ExecutionOutcome
from tickover.boundary.child import LegacyProcess
from tickover.boundary.observation import Late, LegacyObservation, LegacyRequest, Outcome
from tickover.canonical import Json, normalise
from tickover.errors import TickoverError
from tickover.execution import ExecutionKey, Purpose, System
from tickover.workflow import Workflow

log = logging.getLogger(__name__)

# How often a tick that runs looks whether the route has moved, in seconds: as long a rollback waits for the loop.
LOOK_S = 0.25
# How long the end of a loop that was not told to stop waits for what runs beside, in seconds.
BESIDE_S = 120.0
# How long a tick that follows back to back waits for what runs beside to keep up, in seconds.
ROOM_S = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class TickEnd:
    """How a tick that counts ended; immutable. status: done, failed, or lost (its runner or its process died)."""

    tick: int
    owner: System
    status: str
    duration_ms: float
    effects: int


class Watch(Protocol):
    """Asked before and after each tick of the new system, and four times a second while one runs. It may move the
    route; what runs is cut off then, and counts for nothing."""

    def __call__(self, connection: Any, epoch: int, running_s: float | None) -> None:
        """connection: the loop's own, not in autocommit. running_s: since when a tick runs, None if it has ended."""


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


class Server:
    """Runs the ticks of a run, one at a time; the old system in a process of its own, in `home`.

    stopped: set it, and a running tick of the old system is run to its end, one of the new one left to its workers.
    watch: see `Watch`; None for nobody. beside: what runs the other system beside, None for nothing.
    """

    def __init__(
        self, workflow: Workflow, workload: str, run: str, home: Path, *, time_scale: float,
        env: Mapping[str, str] | None = None, model_url: str | None = None, watch: Watch | None = None,
        beside: Beside | None = None,
    ) -> None:  # fmt: skip
        self.workflow, self.run, self.home, self.time_scale, self.watch = workflow, run, home, time_scale, watch
        self.beside = beside
        self.stopped = threading.Event()
        self.has_legacy = legacy_is_there(workflow)
        self.legacy = LegacyProcess(
            workload, home, env, time_scale=time_scale, model_url=model_url, exclusive=True
        )  # fmt: skip
        # The epoch in which the old system's process was last made to stand by.
        self._ready_in: int | None = None
        # What the old system did with a tick whose adoption met a database that went away.
        self._unadopted: tuple[int, TickEnd, Json, LegacyObservation | None] | None = None

    def close(self) -> None:
        """End the old system's process, and what runs beside: at once if the server was told to stop."""
        if self.beside is not None:
            self.beside.close(0.0 if self.stopped.is_set() else BESIDE_S)
        self.legacy.close()

    def leave_home(self) -> None:
        """End the old system's process, which holds its home, until a tick needs it again. Not while a tick runs."""
        self.legacy.close()

    def tick(
        self, connection: Any, interval_s: float = 0.0, due_at: dt.datetime | None = None
    ) -> TickEnd | None:  # fmt: skip
        """Run, adopt and deliver the next tick; None if it does not count, for the route has moved, or was left to
        the workers. connection: the loop's own, not in autocommit. interval_s, due_at (None: now): of the schedule,
        for the record.
        """
        if self.beside is not None and not interval_s:
            # Back to back there is no schedule to keep: what runs beside may keep up, if it can.
            self.beside.wait_for_room(ROOM_S)
        self._deliver(connection)
        number, state = latest_state(self.run, self.workflow, connection)
        if number == 0:
            state = self._first_state(state)
        key = ExecutionKey(run=self.run, tick=number, system=System.ASYNC, purpose=Purpose.CONTROL)
        try:
            # Held for as long as the old system runs: what that does to the world cannot be fenced, so a move waits.
            with ExitStack() as route:
                with _shared(connection, BOUNDARY_LOCK):
                    route.enter_context(_shared(connection, ROUTE_LOCK))
                    self._hand_over(number, state, connection)
                    charge = take_charge(
                        self.run, number, str(key), str(uuid.uuid4()), legacy_is_there=self.has_legacy,
                        interval_s=interval_s, beside=self._beside_name, connection=connection,
                    )  # fmt: skip
                begun = self._begun(charge, interval_s, due_at)
                if charge.owner is System.LEGACY:
                    return self._on_legacy(charge, begun, connection)
                route.close()
                if self.watch is not None:
                    self.watch(connection, charge.epoch, None)  # what a loop that died could not act upon
                ended = self._on_async(charge, begun, key, state, connection)
        except Fenced:
            return None
        if ended is not None and self.watch is not None:
            self.watch(connection, charge.epoch, None)
        return ended

    def _beside_name(self, epoch: int, owner: System) -> str | None:
        return None if self.beside is None or not self.has_legacy else self.beside.name(epoch, owner)

    def _begun(self, charge: Charge, interval_s: float, due_at: dt.datetime | None) -> Begun:
        """The tick as it has begun; whoever runs beside is told, unless it began beside another run."""
        now = dt.datetime.now(dt.UTC)
        name = self._beside_name(charge.epoch, charge.owner)
        begun = Begun(
            run=self.run, tick=charge.tick, owner=charge.owner, epoch=charge.epoch, due_at=due_at or now,
            started_at=now, interval_s=interval_s, beside=name if name and name == charge.beside else "",
        )  # fmt: skip
        if self.beside is not None and begun.beside:
            self.beside.begin(begun)
        return begun

    def _tell_end(self, begun: Begun, seen: LegacyObservation | None = None) -> None:
        if self.beside is None or not begun.beside:
            return
        late: Sequence[Late] = ()
        if begun.owner is System.LEGACY:
            try:
                late = self.legacy.late_effects()
            except TickoverError as error:
                log.warning("late_effects.unknown", extra={"run": self.run, "tick": begun.tick, "reason": str(error)})
        self.beside.end(begun, seen, late)

    def _first_state(self, start: Json) -> Json:
        """What the first tick begins with: what stands in the home, else the workload's own start."""
        if self.workflow.read_state is None or not has_content(self.home):
            return start
        return normalise(self.workflow.read_state(self.home), self.workflow.normalise)

    def _hand_over(self, tick: int, state: Json, connection: Any) -> None:
        """Bring the old system's store up to date, if it is about to run a tick after one that it did not run.

        Before the tick is claimed: a tick that the old system was seen to have begun means that its store is whole.
        """
        owner, begun = who_is_next(self.run, tick, legacy_is_there=self.has_legacy, connection=connection)
        if owner is not System.LEGACY or begun:
            return
        if tick == 0 or is_behind(self.run, tick, self.home, connection):
            self.legacy.write_state(state)
            if tick > 0:
                mark_written(self.run, tick, self.home, connection)

    def _on_legacy(self, charge: Charge, begun: Begun, connection: Any) -> TickEnd:
        seen: LegacyObservation | None = None
        if not charge.begun_before:
            run = begun.beside or self.run
            key = ExecutionKey(run=run, tick=charge.tick, system=System.LEGACY, purpose=Purpose.CONTROL)
            seen = self.legacy.run_tick(
                LegacyRequest(run=run, tick=charge.tick, started_at=begun.started_at, execution_id=str(key))
            )
            ended, after = _end_of(seen), seen.state_after
        elif self._unadopted is not None and self._unadopted[0] == charge.tick:
            _, ended, after, seen = self._unadopted
        else:
            ended, after = _lost(charge.tick), None
        if after is None:
            after = self.legacy.read_state()
        self._unadopted = (charge.tick, ended, after, seen)
        adopt_state(charge, ended.status, after, connection=connection)
        self._unadopted = None
        self._tell_end(begun, seen)
        return ended

    def _on_async(
        self, charge: Charge, begun: Begun, key: ExecutionKey, state: Json, connection: Any
    ) -> TickEnd | None:  # fmt: skip
        source = self.workflow.source(charge.tick, state) if self.workflow.source else None
        # One that is gone on with keeps what it was begun with.
        known = orchestrator.begun_with(key) if charge.begun_before else None
        harness = known[0] if known is not None else recording(begun) if begun.beside else None
        orchestrator.start(
            key, self.workflow, state=state, input=source, harness=harness, time_scale=self.time_scale,
            started_at=begun.started_at,
        )  # fmt: skip
        self._make_ready(charge.epoch)
        ended = self._await(str(key), charge.epoch, connection)
        if ended is None:
            return None
        adopt(charge, self.workflow, ended, connection)
        self._tell_end(begun)
        self._deliver(connection)
        return TickEnd(
            tick=charge.tick, owner=System.ASYNC, status=ended.status, duration_ms=ended.duration_ms or 0.0,
            effects=len(ended.effects),
        )  # fmt: skip

    def _make_ready(self, epoch: int) -> None:
        """Have the old system's process stand by, fresh, while the new one is in charge: a rollback need not wait for
        its start. Once in an epoch, and beside the tick, which does not wait for it."""
        if self._ready_in == epoch or not self.has_legacy:
            return
        self._ready_in = epoch

        def start() -> None:
            try:
                self.legacy.refresh()
            except (TickoverError, OSError) as error:
                log.warning("legacy.not_ready", extra={"run": self.run, "reason": str(error)})

        threading.Thread(target=start, name="tickover-standby", daemon=True).start()

    def _await(self, execution_id: str, epoch: int, connection: Any) -> ExecutionOutcome | None:
        """The outcome, once it is there; None if the route moves meanwhile, or the loop is to stop."""
        begun = dt.datetime.now(dt.UTC)
        while not listener().wait(execution_id, LOOK_S):
            if self.stopped.is_set():
                return None
            if self.watch is not None:
                self.watch(connection, epoch, (dt.datetime.now(dt.UTC) - begun).total_seconds())
            with connection, connection.cursor() as do:
                do.execute("SELECT epoch FROM route WHERE id = 1")
                if do.fetchall()[0][0] != epoch:
                    return None
        return orchestrator.outcome(execution_id)

    def _deliver(self, connection: Any) -> None:
        """Deliver what waits: also what was adopted before a crash, whoever is in charge since."""
        if waits(self.run, connection):
            deliver_pending(self.run, self.workflow, self.home)


@contextmanager
def _shared(connection: Any, key: int) -> Iterator[None]:
    """Hold an advisory lock of the session shared; a move that waits for it goes first, however long it takes."""
    _call(connection, "pg_advisory_lock_shared", key)
    try:
        yield
    finally:
        if not connection.closed:
            _call(connection, "pg_advisory_unlock_shared", key)


def _call(connection: Any, function: str, key: int) -> None:
    with connection, connection.cursor() as do:
        do.execute("SET LOCAL statement_timeout = 0")
        do.execute(f"SELECT {function}(%s)", (key,))


def _end_of(seen: LegacyObservation) -> TickEnd:
    return TickEnd(
        tick=seen.tick, owner=System.LEGACY, status=seen.outcome.value, duration_ms=seen.duration_ms,
        effects=len(seen.effects),
    )  # fmt: skip


def _lost(tick: int) -> TickEnd:
    return TickEnd(tick=tick, owner=System.LEGACY, status=Outcome.LOST.value, duration_ms=0.0, effects=0)
