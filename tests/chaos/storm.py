"""The storm: switchovers and rollbacks in random order under load, while everybody is killed and paused.

All draws come from one seed. What really happens depends on the machine too, so the same seed makes a similar storm,
not the same one: the judge needs no more than what happened.
"""

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
from tests.chaos.storm_journal import JOURNAL, note_fault
from tests.chaos.storm_judge import Verdict, judge

RUN = "storm"
# How long the run may stand still while everybody is there, in seconds, before that is a failure of its own.
STUCK_S = 60.0
# Statements and commits of a move, each with a boundary before and after it; a fuse may also burn past the last one.
SWITCH_BOUNDARIES, ROLLBACK_BOUNDARIES, LOOP_BOUNDARIES = 24, 60, 40
# Where a writer asks for the right to write, where it has written and not committed, and where an effect is out and
# not yet marked as delivered.
AIMS = ("before SELECT pg_advisory_xact_lock_shared", "INSERT INTO states", "before UPDATE outbox")
_CUT = """
SELECT count(pg_terminate_backend(pid)) FROM (
    SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
    AND application_name LIKE %s ORDER BY random() LIMIT 1) a
"""


@dataclass(frozen=True, kw_only=True)
class Weather:
    """What a storm is made of: each number is the chance that a move meets it; immutable.

    mover, loop, legacy, worker, broker: who is killed or paused. gone: nobody is there while the route moves. cut: a
    session is ended. hold, rival: somebody holds the route, or moves it too, at the same time.
    """

    mover: float = 0.4
    loop: float = 0.2
    gone: float = 0.15
    legacy: float = 0.1
    worker: float = 0.04
    cut: float = 0.08
    broker: float = 0.04
    hold: float = 0.15
    rival: float = 0.15


CALM = Weather(mover=0, loop=0, gone=0, legacy=0, worker=0, cut=0, broker=0, hold=0, rival=0)


@dataclass(kw_only=True)
class Storm:
    """One storm over one database. do: a cursor of its own, in autocommit. broker: a client of Redis, or None."""

    crew: Crew
    do: Any
    seed: int
    broker: Any = None
    weather: Weather = field(default_factory=Weather)
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

    def run(self, moves: int, *, until: Callable[[], bool] = lambda: False) -> None:
        """Move the route until it has `moves` new epochs, and calm down; or until `until` says that it is enough."""
        self.do.execute(JOURNAL)
        self._keep()
        while self._epoch() <= moves:
            self.number += 1
            self._say(f"epoch {self._epoch()} {self._owner()} {self._ticks()} ticks")
            self._move()
            self._let(self.draw.choice((0.0, 0.05, 0.2, 0.5)), ticks=self.draw.choice((0, 1, 1, 2, 4)))
            if until():
                return
        self._calm()

    def verdict(self, *, drained: bool = True) -> Verdict:
        """The judge's answer."""
        ledger = self.crew.scratch / "ledger"
        return judge(self.do, RUN, ledger.read_text() if ledger.exists() else "", self.crew.home, drained=drained)

    # What a move is, and what befalls it.

    def _move(self) -> None:
        weather, draw = self.weather, self.draw
        to = self._other() if draw.random() < 0.85 else draw.choice(("async", "legacy"))
        if draw.random() < weather.hold:
            self._later(draw.uniform(0, 0.05), self._hold)
            self._later(draw.uniform(0.05, 0.6), self._release)
        for chance, befall in (
            (weather.loop, self._hit_loop), (weather.legacy, self._hit_legacy), (weather.worker, self._hit_worker),
            (weather.cut, self._cut), (weather.broker, self._hit_broker),
        ):  # fmt: skip
            if draw.random() < chance:
                self._later(draw.uniform(0, 0.3), befall)
        if draw.random() < weather.gone:
            self._send_away()
        movers = [self._mover(to)]
        if draw.random() < weather.rival:
            movers.append(self._mover(draw.choice(("async", "legacy"))))
        # One that was paused, or waits for a boundary that somebody paused keeps away, need not be waited for.
        self._let(3.0, enough=lambda: not any(mover.alive() for mover in movers))
        self._away = False

    def _mover(self, to: str) -> Party:
        draw, fuse = self.draw, {}
        if draw.random() < self.weather.mover:
            boundaries = SWITCH_BOUNDARIES if to == "async" else ROLLBACK_BOUNDARIES
            number = draw.choice((signal.SIGKILL, signal.SIGSTOP))
            fuse = {"boundaries": draw.randint(1, boundaries), "number": number}
        reason = f"storm {self.number}"
        if to == "async":
            party = self.crew.start("switch", **fuse, reason=reason)
        else:
            forced = ["--force"] if draw.random() < 0.4 else []
            party = self.crew.start("rollback", "rollback", *self._place(), "--reason", reason, *forced, **fuse)
        if fuse:
            self._watch(party, "mover")
        return party

    def _send_away(self) -> None:
        """Kill the loop, and sometimes the worker too; none comes before the move is over."""
        self._away = True
        for party in (self.loop, self.worker if self.draw.random() < 0.3 else None):
            if party is not None and party.alive():
                with self._fault(f"{party.kind} kill, away"):
                    party.send(signal.SIGKILL)

    def _hit_loop(self) -> None:
        loop, way = self.loop, self.draw.choice(("kill", "pause", "fuse", "fuse", "zombie"))
        if loop is None or not loop.alive() or loop.pid in self._resting:
            return
        if way == "fuse":
            number = self.draw.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP))
            if self.draw.random() < 0.5:
                loop.arm(self.draw.randint(1, LOOP_BOUNDARIES), number)
            else:
                loop.arm(self.draw.randint(1, 4), number, self.draw.choice(AIMS))
            self._watch(loop, "loop")
        elif way == "kill":
            with self._fault("loop kill"):
                loop.send(signal.SIGKILL)
        else:
            self._rest(loop, "loop")
            if way == "zombie":
                # Its sessions end while it sleeps, as after a lost network; another loop takes its place.
                self.faults["loop zombie"] += 1
                with self._fault("loop sessions"):
                    self.do.execute(_CUT.replace("LIMIT 1", ""), ("tickover loop",))
                self.loop = None

    def _hit_legacy(self) -> None:
        for process in self.crew.old_systems():
            with contextlib.suppress(psutil.NoSuchProcess):
                if self.draw.random() < 0.6:
                    with self._fault("legacy kill"):
                        process.kill()
                else:
                    self.faults["legacy pause"] += 1
                    process.suspend()
                    self._later(self.draw.uniform(0.05, 1.5), lambda process=process: _resume(process))

    def _hit_worker(self) -> None:
        if self.worker is None or not self.worker.alive():
            return
        if self.draw.random() < 0.5:
            with self._fault("worker kill"):
                self.worker.send(signal.SIGKILL)
        else:
            self._rest(self.worker, "worker")

    def _cut(self) -> None:
        with self._fault("session cut"):
            self.do.execute(_CUT, ("tickover%",))

    def _hit_broker(self) -> None:
        if self._server is None or self._server.status() == psutil.STATUS_STOPPED:
            return
        if self.draw.random() < 0.5:
            self.faults["broker emptied"] += 1
            self.broker.flushall()
        else:
            self.faults["broker pause"] += 1
            self._server.suspend()
            self._later(self.draw.uniform(0.1, 1.0), self._server.resume)

    def _hold(self) -> None:
        self.do.execute("BEGIN")
        self.do.execute("UPDATE route SET holds = holds + 1 WHERE id = 1")
        self.do.execute("INSERT INTO route_holds (author, reason) VALUES ('storm', 'storm') RETURNING number")
        self._holds.append(self.do.fetchall()[0][0])
        self.do.execute("COMMIT")

    def _release(self) -> None:
        if self._holds:
            self.do.execute("UPDATE route_holds SET released_at = now() WHERE number = %s", (self._holds.pop(),))
            self.do.execute("UPDATE route SET holds = holds - 1 WHERE id = 1")

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

    def _calm(self) -> None:
        """No more faults: everybody is woken, the old system is put in charge, its ticks go on, and the loop ends."""
        for party, _ in self._fuses:
            party.arm(0, 0)
        self._let(STUCK_S, enough=lambda: not self._due and not self._fuses_burn())
        while self._holds:
            self._release()
        self._let(STUCK_S, enough=lambda: self._ticks_go_on())
        while self._owner() != "legacy":
            mover = self.crew.start(
                "rollback", "rollback", "--run", RUN, "--home", str(self.crew.home), "--reason", "end"
            )
            self._let(STUCK_S, enough=lambda mover=mover: not mover.alive())
        wanted = self._ticks() + 2
        self._let(STUCK_S, enough=lambda: self._ticks() >= wanted)
        if self._ticks() < wanted:
            raise Stuck(self._picture())
        # One that lost its sessions waits for the run to be free, and would go on in the other's place.
        loops = [party for party in self.crew.parties if party.kind == "loop"]
        for loop in loops:
            loop.send(signal.SIGTERM)
        deadline = time.monotonic() + STUCK_S
        while any(loop.alive() for loop in loops):
            if time.monotonic() > deadline:
                raise Stuck(self._picture())
            time.sleep(0.01)  # the pace of looking

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
        """Why nothing goes on: sessions, locks, and what the parties last said."""
        self.do.execute(
            "SELECT a.pid, a.application_name, a.state, a.wait_event, left(a.query, 80), "
            "array_agg(l.locktype || ' ' || coalesce(l.objid, 0) || ' ' || l.mode || ' ' || l.granted) "
            "FROM pg_stat_activity a LEFT JOIN pg_locks l ON l.pid = a.pid AND l.locktype = 'advisory' "
            "WHERE a.datname = current_database() GROUP BY 1, 2, 3, 4, 5"
        )
        said = [
            f"{log.name}: {log.read_text()[-1500:]}"
            for log in sorted(self.crew.scratch.glob("*.log"))
            if log.exists()
        ]
        return "\n".join([*(str(row) for row in self.do.fetchall()), *said])


class Stuck(AssertionError):
    """Nothing goes on, although nobody is dead or paused."""


def _resume(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.resume()


def boundaries_hit(crew: Crew) -> Mapping[tuple[str, str], Counter[str]]:
    """(kind of party, signal) -> how often at which boundary."""
    found: dict[tuple[str, str], Counter[str]] = {}
    for line in crew.boundaries.read_text().splitlines() if crew.boundaries.exists() else []:
        kind, number, boundary, _ = line.split("\t")
        found.setdefault((kind, number), Counter())[boundary] += 1
    return found


def scratch_environment(scratch: Path, database: str, broker: str) -> dict[str, str]:
    """What the storm's processes find in their environment."""
    from tests.chaos.storm_job import LEDGER, WORKLOAD
    from tests.conftest import clean_environment

    return clean_environment(
        DATABASE_URL=database, CELERY_BROKER_URL=broker, TICKOVER_WORKLOAD=WORKLOAD, TICKOVER_SWEEP_S="0.2",
        TICKOVER_LEASE_S="3", TICKOVER_HEARTBEAT_S="0.5", TICKOVER_DATA_DIR=str(scratch / "data"),
        TICKOVER_CONCURRENCY="2", **{LEDGER: str(scratch / "ledger")},
    )  # fmt: skip
