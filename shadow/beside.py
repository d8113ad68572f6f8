"""Beside the loop: the system that is not in charge runs each tick as well, and the comparison is kept.

With the old system in charge the new one follows on workers, from the tape; with the new one in charge the old one
follows on copies of the state. The loop hands over what happened and goes on: one thread here keeps it, others
follow. There is one run for each epoch and version, so that what was seen before a rollback is no evidence for what
comes after it.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from async_tick.beside import Begun
from async_tick.serving import legacy_is_there
from shadow.beside_session import Session
from shadow.compare import not_compared
from shadow.keys import evidence_keys
from shadow.plan import Mode, RunPlan
from shadow.rules import RuleBook, load_rules
from shadow.session import check
from shadow.store import RunRecord, Store, UnreadableRun
from tickover.boundary.observation import Late, LegacyObservation
from tickover.canonical import digest
from tickover.errors import ConfigurationError, TickoverError
from tickover.execution import System
from tickover.ground.database import engine
from tickover.ground.settings import get_settings
from tickover.workflow import Workflow

log = logging.getLogger(__name__)

# Events that wait to be kept. What the old system did with a tick is in one of them, so they cost memory.
EVENTS = 32
# How long keeping one event is tried anew, and the pause in between, in seconds.
GIVE_UP_S, PAUSE_S = 60.0, 1.0
# How long the end of the loop waits for events to be kept, in seconds.
KEEP_S = 5.0
# How long a run whose epoch is over goes on with what is left, in seconds.
PATIENCE_S = 600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ended:
    begun: Begun
    seen: LegacyObservation | None
    late: Sequence[Late]


def make(
    workflow: Workflow, workload: str, run: str, say: Callable[[str], None], *, every_s: float,
    rules_file: str | None = None, noise: float = 0.0, on_miss: str = "live", home: Path | None = None,
) -> LoopBeside:  # fmt: skip
    """What runs beside the loop `run`. Raises ConfigurationError if this workload cannot be run side by side."""
    if not legacy_is_there(workflow):
        raise ConfigurationError(
            f"workload {workload} has no old system to run beside the new one; run `tickover serve` without --shadow"
        )
    settings = get_settings()
    rules = RuleBook() if rules_file is None else load_rules(rules_file)
    plans = {}
    for control, candidate in ((System.LEGACY, System.ASYNC), (System.ASYNC, System.LEGACY)):
        plan = RunPlan(
            run="", workload=workload, ticks=None, every_s=every_s, time_scale=settings.time_scale, seed=7,
            mode=Mode.RECORD, candidate=candidate, on_miss=on_miss, noise=noise, loop=run,
            home=str(home) if home is not None and control is System.LEGACY else None,
        )  # fmt: skip
        check(plan, workflow)
        plans[control] = (plan, evidence_keys(plan, workflow, rules))
    env = {"TICKOVER_WORKLOAD": workload}
    if settings.model_url:
        env["TICKOVER_MODEL_URL"] = settings.model_url
    root = settings.data_dir.expanduser().absolute() / "runs"
    return LoopBeside(plans, workflow, Store(engine()), root, env, say)


class LoopBeside:
    """An `async_tick.beside.Beside`. `failures` counts what went wrong in here, `dropped` events that nobody kept."""

    def __init__(
        self, plans: Mapping[System, tuple[RunPlan, Mapping[str, Any]]], workflow: Workflow, store: Store, root: Path,
        env: Mapping[str, str], say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._plans, self._workflow, self._store, self._root = plans, workflow, store, root
        self._env, self._say = env, say
        self._names = {
            control: digest([keys["behaviour"], keys["judgement"], plan.to_json()])[:6]
            for control, (plan, keys) in plans.items()
        }
        self._events: queue.Queue[Begun | _Ended | None] = queue.Queue(maxsize=EVENTS)
        self._session: Session | None = None
        self._ending: list[threading.Thread] = []
        self._looked_back = False
        self._over = threading.Event()
        self.failures = self.dropped = 0
        self._clerk = threading.Thread(target=self._work, name="tickover-beside", daemon=True)
        self._clerk.start()

    def name(self, epoch: int, owner: System) -> str:
        """The run of an epoch: the loop's name, the epoch, and what the evidence depends on."""
        return f"{self._plans[owner][0].loop}-e{epoch}-{self._names[owner]}"

    def begin(self, begun: Begun) -> None:
        """Have it kept that a tick has begun."""
        self._put(begun)

    def end(self, begun: Begun, seen: LegacyObservation | None, late: Sequence[Late]) -> None:
        """Have the tick followed."""
        self._put(_Ended(begun=begun, seen=seen, late=late))

    def wait_for_room(self, timeout_s: float) -> None:
        """Wait until half of what may wait has been kept and followed."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and not self._over.wait(0.01):
            session = self._session
            if self._events.qsize() <= EVENTS // 2 and (session is None or session.has_room):
                return

    def close(self, patience_s: float) -> None:
        """Follow what is left within the patience, and end."""
        begun = time.monotonic()
        deadline = begun + patience_s
        # What the control did is kept in any case: nobody else knows it.
        with contextlib.suppress(queue.Full):
            self._events.put(None, timeout=KEEP_S)
        self._clerk.join(max(KEEP_S, patience_s) - (time.monotonic() - begun))
        self._over.set()
        if self._session is not None:
            self._session.finish(max(0.0, deadline - time.monotonic()))
        for thread in self._ending:
            thread.join(max(0.0, deadline - time.monotonic()))
        if self.failures or self.dropped:
            self._say(
                f"what runs beside failed {self.failures} times, and could not keep {self.dropped} events; "
                "the report counts those ticks as not compared"
            )

    def _put(self, event: Begun | _Ended) -> None:
        try:
            self._events.put_nowait(event)
        except queue.Full:
            # The loop does not wait. That the tick was there stands in its row, and the run catches up with it.
            self.dropped += 1

    def _work(self) -> None:
        while (event := self._events.get()) is not None:
            deadline = time.monotonic() + GIVE_UP_S
            while not self._kept(event) and not self._over.wait(PAUSE_S) and time.monotonic() < deadline:
                pass
            if self._over.is_set():
                return

    def _kept(self, event: Begun | _Ended) -> bool:
        try:
            begun = event if isinstance(event, Begun) else event.begun
            session = self._session_for(begun)
            if isinstance(event, Begun):
                session.begin(begun)
            else:
                session.end(begun, event.seen, event.late)
            return True
        except Exception as error:  # noqa: BLE001 - whatever fails beside the loop is counted, and the loop goes on
            self._failed(begun.beside, error)
            return False

    def _failed(self, run: str, error: Exception) -> None:
        self.failures += 1
        reason = f"{type(error).__name__}: {error}"
        log.warning("beside.failed", extra={"run": run, "reason": reason})
        if self.failures == 1:
            self._say(f"what runs beside failed ({reason}); ticks go on")

    def _session_for(self, begun: Begun) -> Session:
        if self._session is not None and self._session.plan.run == begun.beside:
            return self._session
        if self._session is not None:
            self._end(self._session, begun.tick + 1)
            self._session = None
        plan, keys = self._plans[begun.owner]
        if not self._looked_back:
            self._looked_back = True
            self._look_back(begun)
        self._session = self._open(replace(plan, run=begun.beside), keys, begun.tick)
        return self._session

    def _open(self, plan: RunPlan, keys: Mapping[str, Any], before: int) -> Session:
        return Session(plan, keys, self._workflow, self._store, self._root, self._env, self._say, before=before)

    def _end(self, session: Session, before: int) -> None:
        """Let a run whose epoch is over follow what is left, beside the next one."""

        def finish() -> None:
            try:
                session.finish(PATIENCE_S, before)
            except Exception as error:  # noqa: BLE001 - what it leaves is seen to by the next loop
                self._failed(session.plan.run, error)

        thread = threading.Thread(target=finish, daemon=True)
        thread.start()
        self._ending.append(thread)

    def _look_back(self, begun: Begun) -> None:
        """See to runs of this loop that an earlier process left: of other epochs, or of other code."""
        try:
            for record in self._store.runs(limit=20):
                # What cannot be read cannot be gone on with, and is left as it is.
                if isinstance(record, UnreadableRun):
                    continue
                if record.plan.loop != begun.run or record.status == "done" or record.run == begun.beside:
                    continue
                keys = self._plans[record.plan.control][1]
                if record.behaviour_key == keys["behaviour"]:
                    self._end(self._open(record.plan, keys, begun.tick), begun.tick + 1)
                else:
                    self._give_up(record)
        except TickoverError as error:
            # An earlier run that is not to be had now keeps its open ticks, and this one is not held up by it.
            log.warning("beside.earlier_run", extra={"run": begun.run, "reason": str(error)})

    def _give_up(self, record: RunRecord) -> None:
        for tick in self._store.uncompared(record.run):
            comparison = not_compared(
                "the loop ended before the candidate ran it, and the code is another one by now"
            )
            self._store.save_comparison(record, tick, comparison, None, None)
        self._store.set_status(record.run, "done")
