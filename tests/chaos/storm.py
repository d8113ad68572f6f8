"""The storm: switchovers and rollbacks in random order under load, while everybody is killed and paused.

All draws come from one seed. What really happens depends on the machine too, so the same seed makes a similar storm,
not the same one: the judge needs no more than what happened.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psutil

from shadow.ledger import watch
from tests.chaos.crew import Party
from tests.chaos.storm_journal import JOURNAL
from tests.chaos.storm_judge import Verdict, judge
from tests.chaos.storm_world import STUCK_S, Stuck, World

# What a move consists of, each with a boundary before and after it; how many boundaries the commands have about.
STATEMENTS = ("SELECT pg_advisory_xact_lock(", "UPDATE route SET owner", "INSERT INTO route_history", "COMMIT")
SWITCH_BOUNDARIES, ROLLBACK_BOUNDARIES, LOOP_BOUNDARIES = 24, 80, 40
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
    session is ended. hold, rival: somebody holds the route, or moves it too, at the same time. guarded: a guardrail
    sends the route back by itself.
    """

    mover: float = 0.4
    loop: float = 0.3
    gone: float = 0.15
    legacy: float = 0.1
    worker: float = 0.04
    cut: float = 0.08
    broker: float = 0.04
    hold: float = 0.15
    rival: float = 0.15
    guarded: float = 0.3


CALM = Weather(mover=0, loop=0, gone=0, legacy=0, worker=0, cut=0, broker=0, hold=0, rival=0, guarded=0)


@dataclass(kw_only=True)
class Storm(World):
    """A storm over a world."""

    weather: Weather = field(default_factory=Weather)

    def __post_init__(self) -> None:
        super().__post_init__()
        # One boundary after another, so that a long storm has met each of them: those of the move, which are few, and
        # all that a command has by their number, in turn.
        self._boundaries = {
            (to, number): self._in_turn(count)
            for to, count in (("async", SWITCH_BOUNDARIES), ("legacy", ROLLBACK_BOUNDARIES))
            for number in (signal.SIGKILL, signal.SIGSTOP)
        }

    def _in_turn(self, count: int) -> Iterator[dict[str, Any]]:
        moves = [f"{when} {statement}" for when in ("before", "after") for statement in STATEMENTS]
        aims = itertools.cycle(self.draw.sample(moves, len(moves)))
        numbers = itertools.cycle(self.draw.sample(range(1, count + 1), count))
        while True:
            yield {"boundaries": 1, "aim": next(aims)}
            yield {"boundaries": next(numbers)}

    def run(self, moves: int) -> Verdict:
        """Move the route until it has `moves` new epochs, calm down, and judge."""
        self.do.execute(JOURNAL)
        watch(self.url)
        self._keep()
        while self._epoch() <= moves:
            self.number += 1
            self._say(f"epoch {self._epoch()} {self._owner()} {self._ticks()} ticks")
            self._move()
            self._let(self.draw.choice((0.0, 0.05, 0.5, 2.0)), ticks=self.draw.choice((0, 1, 1, 2, 4)))
        self._calm()
        return judge(self.do, self.url, self.crew.notebook, self.crew.told(), self.crew.home)

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
            number = draw.choice((signal.SIGKILL, signal.SIGSTOP))
            fuse = {"number": number, **next(self._boundaries[to, number])}
        reason = f"storm {self.number}"
        if to == "async":
            budget = draw.randint(0, 3) if draw.random() < self.weather.guarded else None
            party = self.crew.start("switch", **fuse, reason=reason, budget=budget)
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

    def _calm(self) -> None:
        """No more faults: everybody is woken, the old system is put in charge, its ticks go on, and the loop ends."""
        for party, _ in self._fuses:
            party.arm(0, 0)
        self._let(STUCK_S, enough=lambda: not self._due and not self._fuses_burn())
        for party in self.crew.parties:
            party.send(signal.SIGCONT)
        while self._holds:
            self._release()
        self._let(STUCK_S, enough=lambda: self._ticks_go_on())
        while self._owner() != "legacy":
            mover = self.crew.start("rollback", "rollback", *self._place(), "--reason", "the end")
            self._let(STUCK_S, enough=lambda mover=mover: not mover.alive())
        wanted = self._ticks() + 2
        self._let(STUCK_S, enough=lambda: self._ticks() >= wanted)
        if self._ticks() < wanted:
            raise Stuck(self._picture())
        # One that lost its sessions waits for the run to be free, and would go on in the other's place.
        loops = [party for party in self.crew.parties if party.kind == "loop"]
        for loop in loops:
            loop.send(signal.SIGTERM)
            # One whose fuse burned down as it was disarmed may stand, unseen.
            loop.send(signal.SIGCONT)
        deadline = time.monotonic() + STUCK_S
        while any(loop.alive() for loop in loops):
            if time.monotonic() > deadline:
                raise Stuck(self._picture())
            time.sleep(0.01)  # the pace of looking


def _resume(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.resume()
