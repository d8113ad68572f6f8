"""Races of holds against moves: each thread stops at each statement, and a seeded draw says whose turn it is.

Who committed first is read from the order in which the route's row was written, which its lock makes the order of
commits, and from the turns themselves; no clock is asked.
"""

from __future__ import annotations

import contextlib
import queue
import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from async_tick import route
from tests.chaos.stepping import stepping
from tickover.execution import System
from tickover.ground.raw import connect_raw

# How long a turn may take before its thread counts as waiting for a lock, in seconds. Wrong guesses do no harm: they
# make another order of turns.
TURN_S = 0.004
# How long anything may take at all, in seconds.
LIMIT_S = 30.0

# Who, at which boundary, and whether it arrives there or goes on.
Event = tuple[str, str, str]
_COMMITTED = ("after COMMIT", "arrives")

_JOURNAL = """
CREATE TABLE race_journal (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, owner text, epoch bigint, holds integer);
CREATE FUNCTION race_journal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO race_journal (owner, epoch, holds) VALUES (NEW.owner, NEW.epoch, NEW.holds);
    RETURN NULL;
END $$;
CREATE TRIGGER race_journal AFTER UPDATE ON route FOR EACH ROW EXECUTE FUNCTION race_journal();
"""


class Party(threading.Thread):
    """One that acts on the route, a statement at a time: it goes on when it is given a turn.

    arrivals: told each time that it stands at a boundary, or is over.
    """

    def __init__(self, name: str, act: Callable[[], Any], arrivals: queue.SimpleQueue[Party]) -> None:
        super().__init__(name=name, daemon=True)
        self.act, self.arrivals = act, arrivals
        self.result: Any = None
        self.error: Exception | None = None
        self.boundary = "begin"
        self._may = threading.Semaphore(0)

    def run(self) -> None:
        self.stop("begin")
        try:
            self.result = self.act()
        except Exception as error:  # noqa: BLE001 - judged by who started it
            self.error = error
        self.boundary = "over"
        self.arrivals.put(self)

    def stop(self, boundary: str) -> None:
        """Stand at a boundary until there is a turn."""
        self.boundary = boundary
        self.arrivals.put(self)
        assert self._may.acquire(timeout=LIMIT_S), f"{self.name} got no turn at {boundary}"

    def turn(self) -> None:
        """Let it go on to its next boundary."""
        self._may.release()


@dataclass(kw_only=True)
class Tally:
    """What races came to. orders: how often the hold's commit fell where in the move."""

    races: int = 0
    moved: int = 0
    held: int = 0
    overrun: list[str] = field(default_factory=list)
    orders: Counter[str] = field(default_factory=Counter)
    rewritten: int = 0


def run_races(count: int, seed: int, rewrites: Mapping[str, str] | None = None) -> Tally:
    """Let holds race moves in a database of the caller's, and tell what came of it."""
    draw, tally = random.Random(seed), Tally()
    with closing(connect_raw()) as connection:
        connection.autocommit = True
        with connection.cursor() as do:
            do.execute(_JOURNAL)
            # Who gets no turn for a while is no process that was stopped.
            with mock.patch.object(route, "STALLED_S", 2 * LIMIT_S), stepping(_at_boundary, rewrites) as planted:
                for number in range(count):
                    _race(number, draw, tally)
                tally.rewritten = planted.rewritten
            do.execute("SELECT owner, epoch, holds FROM race_journal ORDER BY seq")
            _judge_journal(do.fetchall(), tally)
            do.execute("SELECT holds, (SELECT count(*) FROM route_holds WHERE released_at IS NULL) FROM route")
            assert do.fetchall() == [(0, 0)]
    return tally


def _at_boundary(boundary: str) -> None:
    party = threading.current_thread()
    if isinstance(party, Party):
        party.stop(boundary)


def _race(number: int, draw: random.Random, tally: Tally) -> None:
    seen, arrivals = route.read_route(), queue.SimpleQueue[Party]()
    mover = Party(
        "move", lambda: route.move(seen, System.ASYNC, author="mover", reason=f"race {number}"), arrivals
    )  # fmt: skip
    holders = [
        Party(f"hold {place}", lambda: route.hold("holder", f"race {number}"), arrivals)
        for place in range(draw.choice((1, 1, 1, 2)))
    ]
    order = _interleave([mover, *holders], arrivals, draw)
    assert all(holder.error is None for holder in holders), [holder.error for holder in holders]
    tally.races += 1
    committed = order.index(next(event for event in order if event[0] != "move" and event[1:] == _COMMITTED))
    updates = next(
        place for place, event in enumerate(order)
        if event[0] == "move" and event[1].startswith("before UPDATE route") and event[2] == "goes"
    )  # fmt: skip
    tally.orders[_place(order[:committed])] += 1
    if mover.error is None:
        tally.moved += 1
        if committed < updates:
            tally.overrun.append(f"race {number}: moved although a hold had been committed: {order}")
        route.move(route.read_route(), System.LEGACY, author="mover", reason="back")
    else:
        assert isinstance(mover.error, route.Held), mover.error
        tally.held += 1
    for holder in holders:
        route.release(holder.result)


def _interleave(parties: list[Party], arrivals: queue.SimpleQueue[Party], draw: random.Random) -> list[Event]:
    """Give turns at random until all are over; what happened, in its order."""
    events: list[Event] = []
    for party in parties:
        party.start()
    standing: list[Party] = []
    under_way = len(parties)
    # The move has more statements: with even chances it would hardly ever be first.
    eager = draw.choice((0.5, 1, 4, 16))
    while standing or under_way:
        # Everybody who is not behind a lock arrives before the next turn is given.
        with contextlib.suppress(queue.Empty):
            while under_way:
                party = arrivals.get(timeout=TURN_S if standing else LIMIT_S)
                under_way -= 1
                events.append((party.name, party.boundary, "arrives"))
                if party.boundary != "over":
                    standing.append(party)
        assert standing or not under_way, f"nobody went on for {LIMIT_S:g} s: {events}"
        if standing:
            weights = [eager if party.name == "move" else 1 for party in standing]
            party = standing.pop(draw.choices(range(len(standing)), weights)[0])
            events.append((party.name, party.boundary, "goes"))
            under_way += 1
            party.turn()
    for party in parties:
        party.join(LIMIT_S)
    return events


def _place(before: list[Event]) -> str:
    """How far the move was when the first hold had been committed."""
    done = {(name, how) for who, name, how in before if who == "move"}
    if _COMMITTED in done:
        return "after the move"
    if any(name.startswith("before UPDATE") and how == "goes" for name, how in done):
        return "after the move's update had begun"
    if any(name.startswith("after SELECT pg_advisory") for name, _ in done):
        return "after the move's lock"
    return "before the move's lock" if ("begin", "goes") in done else "before the move"


def _judge_journal(rows: list[tuple[str, int, int]], tally: Tally) -> None:
    holds, epoch = 0, 1
    for owner, now, held in rows:
        if now != epoch and owner == "async" and holds > 0:
            tally.overrun.append(f"epoch {now}: moved over {holds} holds that had been committed")
        holds, epoch = held, now
