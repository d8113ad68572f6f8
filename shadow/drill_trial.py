"""One trial: a fault in one tick of one system, on a copy, and what can only be done to it from outside."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shadow.drill_ground import LEASE_S, Ground, Runner
from shadow.drill_host import effects_of
from shadow.observation import Observation
from shadow.sides import candidate_timeout_s
from tickover.canonical import Json
from tickover.errors import InfrastructureError
from tickover.execution import ExecutionKey, Purpose, System
from tickover.faults import read_ledger
from tickover.tape import TapeEntry
from tickover.workflow import Workflow

# How long the old system's files are locked, as PostgreSQL is away, in seconds at scale 1.
LOCKED_S = 2.0
# How long a paused process stays so where nobody takes its step over: a moment longer than the lease.
PAUSED_S = LEASE_S + 1.0
# How long a late commit is waited for after its process was woken, or its hang has ended, in seconds.
LATE_S = 20.0
# How long a paused worker's step may go without an heir before it is woken all the same, in seconds.
HEIR_S = 40.0
# How long the note of a commit is waited for, in seconds.
NOTE_S = 5.0
_LOOK_S = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class StartingPoint:
    """What a tick is run from; immutable. draws, tape: of the run that the drill belongs to, latencies scaled."""

    run: str
    tick: int
    started_at: str
    state: Json
    draws: Mapping[str, Any] | None
    tape: tuple[TapeEntry, ...]

    def work_s(self, step: str) -> float:
        """How long the step's calls take, in seconds of the drill's time."""
        return sum(entry.latency_ms for entry in self.tape if entry.step == step) / 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class SideRun:
    """What one system did with one tick of a drill; immutable.

    seen: None where nobody answered: `unended` says why. state: afterwards. effects: (step, kind, payload) of
    what became real. late: effects that came after the system had given up on their step. ledger: its events.
    """

    system: System
    seen: Observation | None
    state: Json
    effects: tuple[tuple[str, str, Json], ...]
    late: int
    ledger: tuple[dict[str, Any], ...] = field(default=())
    unended: str = ""

    @property
    def is_struck(self) -> bool:
        """Whether the fault struck: otherwise this was no trial of it."""
        return any(event["event"] == "struck" for event in self.ledger)


class TrialRunner:
    """Runs ticks of both systems on a drill's ground."""

    def __init__(self, ground: Ground, workflow: Workflow) -> None:
        self._ground, self._workflow = ground, workflow
        self._timeout_s = candidate_timeout_s(workflow, ground.time_scale)
        self._pass = 0

    def run(self, system: System, point: StartingPoint, fault: Mapping[str, Any] | None = None) -> SideRun:
        """One tick, undisturbed or under a fault. Raises InfrastructureError where no answer comes."""
        self._ground.ready()
        self._pass += 1
        folder = self._ground.root / "trials" / f"{self._pass}-{system.value}"
        folder.mkdir(parents=True)
        faults = {"kind": "", "step": "", **(fault or {}), "folder": str(folder)}
        key = ExecutionKey(run=point.run, tick=point.tick, system=system, purpose=Purpose.DRILL, pass_=self._pass)
        job = {
            "execution_id": str(key), "started_at": point.started_at, "state": point.state, "draws": point.draws,
            "tape": [entry.to_json() for entry in point.tape] if system is System.LEGACY else [], "faults": faults,
            "timeout_s": self._timeout_s, "late_s": faults.get("length_s", 0.0) + LATE_S,
        }  # fmt: skip
        answer = _Watch(self._ground, system, faults, folder, self._timeout_s + 30).answer(job)
        seen = answer.get("observation")
        state = answer.get("state")
        observation = None if seen is None else Observation.from_json(seen, state)
        return SideRun(
            system=system, seen=observation, state=state, unended=answer.get("unended", ""),
            late=answer.get("late", 0),
            effects=tuple(
                (step, kind, payload)
                for step, kind, payload in (
                    effects_of(self._workflow, folder)
                    if system is System.LEGACY
                    else _effects(observation)
                )
            ),
            ledger=tuple(read_ledger(folder)),
        )  # fmt: skip


def _effects(seen: Observation | None) -> Iterator[tuple[str, str, Json]]:
    """What the new system's tick would give to adoption: nothing, unless it ended well."""
    if seen is not None and seen.outcome == "done":
        for item in seen.effects:
            yield item.effect.step, item.effect.kind, item.effect.payload


class _Watch:
    """Watches one tick and does what its fault cannot do from within."""

    def __init__(
        self, ground: Ground, system: System, faults: Mapping[str, Any], folder: Path, timeout_s: float
    ) -> None:  # fmt: skip
        self._ground, self._system, self._faults, self._folder = ground, system, faults, folder
        self._deadline = time.monotonic() + timeout_s
        self._timeout_s = timeout_s
        self._acted = False
        self._paused: tuple[int, float] | None = None

    def answer(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """The runner's answer."""
        runner = self._ground.runner(self._system)
        runner.send(job)
        try:
            while True:
                found = runner.answer(_LOOK_S)
                self._look()
                if found is not None:
                    break
                if not runner.alive():
                    found = runner.answer(0.2)
                    if found is not None:
                        break
                    runner = self._runner_ended()
                    if self._system is System.LEGACY:
                        # What was begun is not run again: nobody knows what it did.
                        runner.send(
                            {"read_state": "the tick is lost: its runner was killed, and it is not run again"}
                        )
                    else:
                        runner.send(job)
                if time.monotonic() > self._deadline:
                    raise InfrastructureError(
                        f"a tick of the drill had no answer within {self._timeout_s:g} s; "
                        f"see the logs in {self._ground.root / 'logs'}"
                    )
            if "error" in found:
                raise InfrastructureError(f"a tick of the drill was not run to its end: {found['error']}")
            self._await_late()
            return found
        finally:
            self._wake()

    def _runner_ended(self) -> Runner:
        if self._faults["kind"] != "killed_runner" or self._struck() is None:
            raise InfrastructureError(
                f"a drill's runner ended by itself; see {self._ground.root / 'logs'}/runner-{self._system.value}.log"
            )
        return self._ground.runner(self._system)

    def _struck(self) -> dict[str, Any] | None:
        return next((event for event in read_ledger(self._folder) if event["event"] == "struck"), None)

    def _look(self) -> None:
        """Do what the fault needs from outside, once it has struck."""
        kind = self._faults["kind"]
        if self._paused is not None:
            self._wake_when_due()
        elif not self._acted and kind in ("paused_process", "database_restart", "broker_restart"):
            struck = self._struck()
            if struck is None:
                return
            self._acted = True
            if kind == "paused_process":
                self._paused = (struck["pid"], time.monotonic())
            elif kind == "broker_restart":
                self._ground.restart("redis", self._go_on)
            elif self._system is System.ASYNC:
                self._ground.restart("postgres", self._go_on)
            else:
                with locked(self._ground.root / "home"):
                    self._go_on()
                    time.sleep(LOCKED_S * self._ground.time_scale)  # for as long as the files are locked

    def _go_on(self) -> None:
        (self._folder / "go_on").touch()

    def _wake_when_due(self) -> None:
        assert self._paused is not None
        pid, since = self._paused
        if self._system is System.LEGACY:
            due = time.monotonic() - since > PAUSED_S
        else:
            step = self._faults["step"]
            heir = any(
                event["event"] == "committed" and event["step"] == step and event["pid"] != pid and event["accepted"]
                for event in read_ledger(self._folder)
            )
            due = heir or time.monotonic() - since > HEIR_S
        if due:
            self._wake()

    def _wake(self) -> None:
        if self._paused is not None:
            os.kill(self._paused[0], signal.SIGCONT)
            self._paused = None

    def _await_late(self) -> None:
        """Wait for the note of the commit, which follows it, and for the refusal of whoever had lost the step."""
        if self._system is System.LEGACY or not self._faults["kind"]:
            return
        self._wake()
        step = self._faults["step"]
        self._await(
            lambda event: event["event"] == "committed" and event["accepted"] and event["step"] == step, NOTE_S
        )
        if self._faults["kind"] in ("paused_process", "hang"):
            self._await(lambda event: event.get("accepted") is False, self._faults.get("length_s", 0.0) + LATE_S)

    def _await(self, sought: Callable[[dict[str, Any]], bool], timeout_s: float) -> None:
        """Wait for an event in the ledger, in vain after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while not any(sought(event) for event in read_ledger(self._folder)) and time.monotonic() < deadline:
            time.sleep(_LOOK_S)  # the pace of looking


def sqlite_files(home: Path) -> list[Path]:
    """The SQLite databases in a home."""
    found = []
    for path in home.rglob("*") if home.exists() else ():
        if path.is_file():
            with path.open("rb") as file:
                if file.read(16) == b"SQLite format 3\0":
                    found.append(path)
    return found


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """The SQLite databases of a home, locked so that nobody else can read or write them."""
    with ExitStack() as stack:
        for path in sqlite_files(home):
            connection = stack.enter_context(closing(sqlite3.connect(path, timeout=5, isolation_level=None)))
            connection.execute("BEGIN EXCLUSIVE")
        yield
