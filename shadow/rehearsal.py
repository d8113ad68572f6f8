"""The rehearsal: switchover and rollback on a copy of the state, with database, broker, worker and loop of its own.

It is timed and checked, and nothing of it is left.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from async_tick.adoption import latest_state
from async_tick.loop import Loop
from async_tick.rollback import roll_back
from async_tick.route import move, read_route
from async_tick.serving import Server, TickEnd
from async_tick.worker import start_worker
from tickover.canonical import canonical_text, normalise
from tickover.errors import InfrastructureError
from tickover.execution import System
from tickover.ground.process import ChildProcess
from tickover.ground.raw import connect_raw
from tickover.workflow import Workflow

# The name of the loop's run in the database of the rehearsal.
RUN = "rehearsal"
_AUTHOR = "tickover rehearse"

_TICKS = """
SELECT tick, owner, outcome, epoch, extract(epoch FROM claimed_at - lag(adopted_at) OVER (ORDER BY tick)), adopted_at
FROM ticks WHERE run = %s ORDER BY tick
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Act:
    """One move of the rehearsal; immutable. took_s: from the command to its end, with the wait for a running tick.
    pause_s: between the last tick before it and the first after it; None where no loop was there."""

    name: str
    took_s: float
    pause_s: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """One thing that must hold; immutable."""

    name: str
    holds: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Rehearsed:
    """How it went; immutable. not_done: ticks that failed or were lost, which is no matter of the moves."""

    acts: tuple[Act, ...]
    facts: tuple[Fact, ...]
    not_done: int

    @property
    def holds(self) -> bool:
        """Whether all that must hold does."""
        return all(fact.holds for fact in self.facts)


class Rehearsal:
    """One rehearsal in the database, with the broker and in the home that the settings name by now.

    workload: `module:name`, what the old system's process and the worker load. env: for the worker. logs: folder of
    its log. ticks: how many each system runs in a row. limit_s: how long each of these may take.
    """

    def __init__(
        self, workflow: Workflow, workload: str, home: Path, *, time_scale: float, model_url: str | None,
        env: Mapping[str, str], logs: Path, ticks: int, limit_s: float, say: Callable[[str], None],
    ) -> None:  # fmt: skip
        # Nothing is delivered: this is a copy, and receivers are real.
        self.workflow, self.home = replace(workflow, deliver=None), home
        self.ticks, self.limit_s, self.say = ticks, limit_s, say
        self._env, self._logs = env, logs
        self._server = Server(
            self.workflow, workload, RUN, home, time_scale=time_scale, model_url=model_url
        )  # fmt: skip
        self._loop = Loop(self._server, every_s=0.0)
        self._ended: list[TickEnd] = []
        self._failure: BaseException | None = None
        self._acts: list[tuple[str, float, int | None]] = []

    def play(self) -> Rehearsed:
        """Over, back, over, and back with loop and worker dead. Raises InfrastructureError if it does not get on."""
        loop = threading.Thread(target=self._serve, name="tickover-rehearsal", daemon=True)
        worker = start_worker(
            log_path=self._logs / "worker.log", pool="threads", concurrency=4, name=f"rehearsal-{id(self)}",
            env=self._env,
        )  # fmt: skip
        with worker:
            worker.ready()
            loop.start()
            try:
                self._await(System.LEGACY)
                self._act("switchover", self._over)
                self._await(System.ASYNC)
                self._act("rollback", self._back)
                self._await(System.LEGACY)
                self._act("switchover again", self._over)
                self._await(System.ASYNC)
                self._kill(worker, loop)
                self._act("rollback, workers and loop dead", self._back, served=False)
            finally:
                self._loop.stop()
                if loop.ident is not None:
                    loop.join(self.limit_s)
        return self._judged()

    def _serve(self) -> None:
        try:
            self._loop.serve(None, lambda ended, overran: self._told(ended))
        except BaseException as error:  # noqa: BLE001 - it is raised where the loop is waited for
            self._failure = error

    def _told(self, ended: TickEnd) -> None:
        self._ended.append(ended)
        self.say(f"tick {ended.tick}: {ended.owner} {ended.status} in {ended.duration_ms:.0f} ms")

    def _await(self, owner: System) -> None:
        """Wait until a system has run `ticks` more ticks."""
        begun, deadline = len(self._ended), time.monotonic() + self.limit_s
        while sum(ended.owner is owner for ended in self._ended[begun:]) < self.ticks:
            if self._failure is not None:
                raise self._failure
            if time.monotonic() > deadline:
                raise InfrastructureError(
                    f"{owner} has not run {self.ticks} ticks of the rehearsal within {self.limit_s:g} s; its log is "
                    "the old system's, `rehearse --limit SECONDS` waits longer"
                )
            time.sleep(0.02)  # the pace of looking for the end of a tick

    def _act(self, name: str, act: Callable[[], None], *, served: bool = True) -> None:
        begun = time.monotonic()
        act()
        took_s = time.monotonic() - begun
        self._acts.append((name, took_s, read_route().epoch if served else None))
        self.say(f"{name}: {took_s:.2f} s")

    def _over(self) -> None:
        move(read_route(), System.ASYNC, author=_AUTHOR, reason="rehearsal")

    def _back(self) -> None:
        done = roll_back(
            read_route(), self.workflow, RUN, self.home, author=_AUTHOR, reason="rehearsal"
        )  # fmt: skip
        if done.why_not is not None:
            raise InfrastructureError(f"the rollback could not write the old system's store: {done.why_not}")

    def _kill(self, worker: ChildProcess, loop: threading.Thread) -> None:
        """Kill the worker with -9, and have the loop leave the tick that nobody runs any more."""
        worker.kill()
        self._loop.stop()
        loop.join(self.limit_s)
        if loop.is_alive():
            raise InfrastructureError(f"the rehearsal's loop has not ended within {self.limit_s:g} s")

    def _judged(self) -> Rehearsed:
        with closing(connect_raw(application_name="tickover rehearsal")) as connection, connection.cursor() as do:
            do.execute(_TICKS, (RUN,))
            rows = list(do.fetchall())
        pauses: dict[int, float] = {}
        for _, _, _, epoch, pause_s, _ in rows:
            if pause_s is not None:
                pauses.setdefault(epoch, float(pause_s))
        acts = [
            Act(name=name, took_s=took_s, pause_s=None if epoch is None else pauses.get(epoch))
            for name, took_s, epoch in self._acts
        ]
        not_done = sum(row[2] not in (None, "done") for row in rows)
        return Rehearsed(acts=tuple(acts), facts=tuple(self._facts(rows)), not_done=not_done)

    def _facts(self, rows: list[tuple[Any, ...]]) -> list[Fact]:
        adopted = [row for row in rows if row[5] is not None]
        number, state = latest_state(RUN, self.workflow)
        assert self.workflow.read_state is not None
        store = normalise(self.workflow.read_state(self.home), self.workflow.normalise)
        return [
            Fact(
                name=f"{len(adopted)} ticks, each with one owner, none missing and none twice",
                holds=[row[0] for row in adopted] == list(range(number)) and number == len(self._ended),
            ),
            Fact(
                name="each system ran its ticks under its own epoch",
                holds=all((row[1] == "async") == (row[3] % 2 == 0) for row in adopted),
            ),
            Fact(
                name="the old system's store holds what the new one wrote last",
                holds=canonical_text(store) == canonical_text(state),
            ),
        ]  # fmt: skip
