"""The world of a storm: its parties, which are kept there, the time that passes, and what stands in the database."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.chaos.crew import Crew, Party
from tests.chaos.storm_job import NOTEBOOK, RUN, WORKLOAD
from tests.chaos.storm_journal import note_fault
from tests.conftest import clean_environment

# How long the run may stand still while everybody is there, in seconds, before that is a failure of its own.
STUCK_S = 60.0


@dataclass(kw_only=True)
class World:
    """Over the database at `url`. do: a cursor of its own, in autocommit. broker: a client of Redis, or None."""

    crew: Crew
    url: str
    do: Any
    seed: int
    broker: Any = None
    faults: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)
        self.loop: Party | None = None
        self.worker: Party | None = None
        self.number, self._away = 0, False
        self._server = None if self.broker is None else psutil.Process(self.broker.info()["process_id"])
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._holds: list[int] = []
        self._again: dict[str, float] = {}
        self._resting: set[int] = set()
        self._fuses: list[tuple[Party, str]] = []

    def _say(self, what: str) -> None:
        with (self.crew.scratch / "storm.log").open("a") as log:
            log.write(f"{time.time():.3f} {self.number} {what}\n")

    # Faults, and what goes on again.

    @contextlib.contextmanager
    def _fault(self, kind: str) -> Any:
        self.faults[kind] += 1
        name = f"{kind} {sum(self.faults.values())}"
        self._say(name)
        note_fault(self.do, "fault begins", name)
        yield
        note_fault(self.do, "fault ends", name)

    def _place(self) -> tuple[str, ...]:
        return ("--run", RUN, "--home", str(self.crew.home))

    def _watch(self, party: Party, kind: str) -> None:
        name = f"{kind} fuse {self.number} {party.pid}"
        note_fault(self.do, "fault begins", name)
        self._fuses.append((party, name))

    def _rest(self, party: Party, kind: str) -> None:
        self.faults[f"{kind} pause"] += 1
        self._say(f"{kind} pause")
        party.send(signal.SIGSTOP)
        self._wake_later(party)

    def _wake_later(self, party: Party) -> None:
        self._resting.add(party.pid)
        rest_s = self.draw.choice((self.draw.uniform(0.02, 0.3), self.draw.uniform(0.3, 2.5)))

        def wake() -> None:
            self._resting.discard(party.pid)
            party.send(signal.SIGCONT)

        self._later(rest_s, wake)

    def _look_at_fuses(self) -> None:
        """Whom its fuse has stopped goes on after a while; whom it has killed is known to be dead."""
        for party, name in list(self._fuses):
            if party.alive() and party.pid not in self._resting and party.stands():
                self.faults[f"{party.kind} stopped at a statement"] += 1
                self._say(f"{party.kind} stopped at a statement")
                self._wake_later(party)
            elif party.alive():
                continue
            note_fault(self.do, "fault ends", name)
            self._fuses.remove((party, name))

    def _keep(self) -> None:
        """See to it that a loop and a worker are there, a moment after they are missed."""
        if self._away:
            return
        for kind, party, start in (
            ("loop", self.loop, self._start_loop),
            ("worker", self.worker, self._start_worker),
        ):
            if party is None or not party.alive():
                due = self._again.setdefault(kind, time.monotonic() + self.draw.uniform(0, 0.2))
                if time.monotonic() >= due:
                    del self._again[kind]
                    start()

    def _start_loop(self) -> None:
        self.loop = self.crew.start("loop", "serve", *self._place(), "--every", "0")

    def _start_worker(self) -> None:
        self.worker = self.crew.start("worker", name=f"storm-{self.number}-{time.monotonic_ns()}")

    # Time.

    def _later(self, wait_s: float, act: Callable[[], None]) -> None:
        self._due.append((time.monotonic() + wait_s, len(self._due), act))

    def _let(self, limit_s: float, *, ticks: int = 0, enough: Callable[[], bool] | None = None) -> None:
        """Let time pass: until so many ticks have ended or `enough`, at most `limit_s` seconds."""
        begun, wanted = time.monotonic(), self._ticks() + ticks
        while True:
            for due in [due for due in sorted(self._due, key=lambda due: due[:2]) if due[0] <= time.monotonic()]:
                self._due.remove(due)
                due[2]()
            self._look_at_fuses()
            self._keep()
            if time.monotonic() - begun >= limit_s or (enough is not None and enough()):
                return
            if enough is None and ticks and self._ticks() >= wanted:
                return
            time.sleep(0.005)  # the pace of looking

    def _fuses_burn(self) -> bool:
        self._fuses = [(party, name) for party, name in self._fuses if party.alive() and party.stands()]
        return bool(self._fuses)

    def _ticks_go_on(self) -> bool:
        return all(party is not None and party.alive() for party in (self.loop, self.worker))

    # What stands in the database.

    def _value(self, statement: str) -> Any:
        self.do.execute(statement)
        return self.do.fetchall()[0][0]

    def _epoch(self) -> int:
        return int(self._value("SELECT epoch FROM route"))

    def _owner(self) -> str:
        return str(self._value("SELECT owner FROM route"))

    def _other(self) -> str:
        return "async" if self._owner() == "legacy" else "legacy"

    def _ticks(self) -> int:
        return int(self._value(f"SELECT count(*) FROM states WHERE run = '{RUN}'"))

    def _picture(self) -> str:
        """Why nothing goes on: who is there, and where; sessions, locks, and what the parties last said."""
        there = [party for party in self.crew.parties if party.alive()]
        for party in there:
            party.send(signal.SIGUSR1)
        time.sleep(0.5)  # for them to write their stacks
        self.do.execute(
            "SELECT a.pid, a.application_name, a.state, a.wait_event, left(a.query, 80), "
            "array_agg(l.locktype || ' ' || coalesce(l.objid, 0) || ' ' || l.mode || ' ' || l.granted) "
            "FROM pg_stat_activity a LEFT JOIN pg_locks l ON l.pid = a.pid AND l.locktype = 'advisory' "
            "WHERE a.datname = current_database() GROUP BY 1, 2, 3, 4, 5"
        )
        said = [
            f"{log.name}: {log.read_text()[-5000:]}"
            for log in sorted(self.crew.scratch.glob("*.log"))
            if log.exists()
        ]
        parties = [f"{party.kind} {party.pid}, {'stopped' if party.stands() else 'running'}" for party in there]
        return "\n".join([*parties, *(str(row) for row in self.do.fetchall()), *said])


class Stuck(AssertionError):
    """Nothing goes on, although nobody is dead or paused."""


def boundaries_hit(crew: Crew) -> Mapping[tuple[str, str], Counter[str]]:
    """(kind of party, signal) -> how often at which boundary."""
    found: dict[tuple[str, str], Counter[str]] = {}
    for line in crew.boundaries.read_text().splitlines() if crew.boundaries.exists() else []:
        kind, number, boundary, _ = line.split("\t")
        found.setdefault((kind, number), Counter())[boundary] += 1
    return found


def scratch_environment(scratch: Path, database: str, broker: str) -> dict[str, str]:
    """What the storm's processes find in their environment."""
    return clean_environment(
        DATABASE_URL=database, CELERY_BROKER_URL=broker, TICKOVER_WORKLOAD=WORKLOAD, TICKOVER_SWEEP_S="0.2",
        TICKOVER_LEASE_S="3", TICKOVER_HEARTBEAT_S="0.5", TICKOVER_DATA_DIR=str(scratch / "data"),
        TICKOVER_CONCURRENCY="2", **{NOTEBOOK: str(scratch / "notebook")},
    )  # fmt: skip
