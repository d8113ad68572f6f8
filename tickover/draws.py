"""Draws: what a step takes from clock, randomness and identifiers.

Derived draws depend on run, tick and step alone, so that they are the same at every attempt and in both systems.
Recorded draws give a step what the control drew in the same step, in its order, and derived ones when that is used
up.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import random
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

# The instant of tick 0 of a run for which no start is known.
EPOCH = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)


def seed_of(*parts: object) -> int:
    """A 256-bit integer that depends on the parts alone, on every machine and Python version."""
    joined = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(joined.encode("utf-8")).digest(), "big")


class Draws(Protocol):
    """What `context.now`, `context.random` and `context.new_id()` are made from, for one step."""

    @property
    def random(self) -> random.Random:
        """The step's random generator."""

    def now(self) -> dt.datetime:
        """The instant, aware, in UTC."""

    def new_id(self) -> uuid.UUID:
        """The next identifier."""


class DerivedDraws:
    """Draws that depend on run, tick and step alone. `started_at` is the tick's instant (aware), the same for all
    steps."""

    def __init__(self, run: str, tick: int, step: str, started_at: dt.datetime | None = None) -> None:
        self._identity = (run, tick, step)
        self._now = started_at if started_at is not None else EPOCH + dt.timedelta(seconds=tick)
        self._ids = 0
        self.random = random.Random(seed_of(run, tick, step, "random"))

    def now(self) -> dt.datetime:
        return self._now

    def new_id(self) -> uuid.UUID:
        self._ids += 1
        return uuid.UUID(int=seed_of(*self._identity, "id", self._ids) >> 128, version=4)


class RecordedDraws:
    """The control's draws, replayed; immutable source, one instance per attempt.

    `record` has the lists `now` (ISO 8601 instants), `random` (entries `[method, bits or null, value]`) and `ids`.
    A draw beyond what was recorded comes from `derived`, and `diverged` names the doors ("now", "random", "ids")
    where that happened.
    """

    def __init__(self, record: Mapping[str, Sequence[Any]], derived: DerivedDraws) -> None:
        self._now = deque(dt.datetime.fromisoformat(text) for text in record.get("now", ()))
        self._ids = deque(record.get("ids", ()))
        self._derived = derived
        self._last = self._now[-1] if self._now else None
        self.diverged: set[str] = set()
        self.random: random.Random = _RecordedRandom(deque(record.get("random", ())), derived.random, self.diverged)

    def now(self) -> dt.datetime:
        if self._now:
            return self._now.popleft()
        if self._last is None:
            self.diverged.add("now")
            return self._derived.now()
        return self._last

    def new_id(self) -> uuid.UUID:
        if self._ids:
            return uuid.UUID(self._ids.popleft())
        self.diverged.add("ids")
        return self._derived.new_id()


class _RecordedRandom(random.Random):
    """A generator whose two primitives, `random` and `getrandbits`, give what was recorded while the calls agree.

    Every other method of `random.Random` is made from these two, so equal calls give equal values.
    """

    def __init__(self, record: deque[Any], derived: random.Random, diverged: set[str]) -> None:
        self._record, self._derived, self._diverged = record, derived, diverged
        super().__init__(0)

    def seed(self, *args: Any, **kwargs: Any) -> None:
        """Recorded values are not seeded."""

    def random(self) -> float:
        if self._record and self._record[0][0] == "random":
            return float(self._record.popleft()[2])
        self._diverge()
        return self._derived.random()

    def getrandbits(self, k: int, /) -> int:
        if self._record and self._record[0][0] == "getrandbits" and self._record[0][1] == k:
            return int(self._record.popleft()[2])
        self._diverge()
        return self._derived.getrandbits(k)

    def _diverge(self) -> None:
        self._record.clear()
        self._diverged.add("random")
