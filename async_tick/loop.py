"""The loop: one tick after another through the new system, adopted and delivered."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from async_tick import orchestrator
from async_tick.adoption import adopt, latest_state, take_charge
from async_tick.delivery import deliver_pending
from async_tick.outcome import ExecutionOutcome
from tickover.draws import seed_of
from tickover.errors import ConfigurationError
from tickover.execution import ExecutionKey, Purpose, System
from tickover.ground.raw import connect_raw
from tickover.workflow import Workflow

Tell = Callable[[int, ExecutionOutcome, bool], None]


class Loop:
    """Runs a workflow every `every_s` seconds (at scale 1) under the name `run`. One process per run at a time.

    It goes on where it was: after the last adopted tick, and with the execution that was begun, which is joined.
    """

    def __init__(
        self,
        workflow: Workflow,
        run: str,
        home: Path,
        *,
        every_s: float,
        time_scale: float,
        timeout_s: float | None = None,
    ) -> None:
        self.workflow, self.run, self.home = workflow, run, home
        self.interval = dt.timedelta(seconds=every_s * time_scale)
        self.time_scale, self.timeout_s = time_scale, timeout_s
        self.stopped = threading.Event()

    def serve(self, ticks: int | None, tell: Tell) -> int:
        """Run ticks until `ticks` are done (None: until `stopped` is set) and return how many were.

        `tell` gets each tick's number, its outcome, and whether it overran its interval. Raises ConfigurationError
        if another process serves the run.
        """
        with closing(connect_raw(application_name="tickover loop")) as connection:
            connection.autocommit = True
            with connection.cursor() as do:
                do.execute("SELECT pg_try_advisory_lock(%s)", (seed_of("loop", self.run) % 2**63,))
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
                tick, ended = self.tick()
                now = dt.datetime.now(dt.UTC)
                overran = self.interval > dt.timedelta(0) and now > due + self.interval
                # A tick that overruns delays the next; what was missed is not made up for.
                due = now if overran else due + self.interval
                done += 1
                tell(tick, ended, overran)
        return done

    def tick(self) -> tuple[int, ExecutionOutcome]:
        """Run, adopt and deliver the next tick."""
        number, state = latest_state(self.run, self.workflow)
        key = ExecutionKey(run=self.run, tick=number, system=System.ASYNC, purpose=Purpose.CONTROL)
        charge = take_charge(self.run, number, str(key), str(uuid.uuid4()))
        source = self.workflow.source(number, state) if self.workflow.source else None
        ended = orchestrator.execute(
            key, self.workflow, state=state, input=source, time_scale=self.time_scale, timeout_s=self.timeout_s
        )
        adopt(charge, self.workflow, ended)
        deliver_pending(self.run, self.workflow, self.home)
        return number, ended
