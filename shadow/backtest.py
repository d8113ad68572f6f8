"""A whole run through the port as it is now: counts and findings, a stratum of its own and no evidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from shadow.compare import Kind
from shadow.replay import Replayed
from shadow.signature import Attribution, Finding, Sighting
from shadow.signature import findings as gather

_BAD = (Kind.MISMATCH, Kind.CANDIDATE_FAILED)


class Backtest:
    """Counts ticks that were run again, as they come."""

    def __init__(self) -> None:
        self._now: Counter[str] = Counter()
        self._was: Counter[str] = Counter()
        self._changed: dict[int, tuple[str, str]] = {}
        self._sightings: dict[tuple[str, str, str], Sighting] = {}

    @property
    def ticks(self) -> int:
        """How many ticks were counted."""
        return self._now.total()

    @property
    def is_good(self) -> bool:
        """Whether no tick is a mismatch or a failure of the port."""
        return not any(self._now[kind.value] for kind in _BAD)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What differs, equal causes as one."""
        return gather(self._sightings.values())

    def add(self, replayed: Replayed) -> None:
        """Count a tick."""
        now, was = replayed.comparison.kind.value, replayed.was
        self._now[now] += 1
        if was is not None:
            self._was[was] += 1
            if now != was:
                self._changed[replayed.tick] = (was, now)
        for found in replayed.comparison.attributions:
            self._see(found, now, replayed.tick)

    def _see(self, found: Attribution, kind: str, tick: int) -> None:
        key = (found.step, found.signature, kind)
        before = self._sightings.get(key)
        self._sightings[key] = Sighting(
            step=found.step, signature=found.signature, kind=kind, atoms=found.atoms,
            count=1 if before is None else before.count + 1,
            first_tick=tick if before is None else before.first_tick, last_tick=tick,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """The counts as a JSON document."""
        return {
            "ticks": self.ticks, "counts": dict(self._now), "was": dict(self._was),
            "changed": {str(tick): list(kinds) for tick, kinds in self._changed.items()},
            "findings": [finding.to_json() for finding in self.findings],
        }  # fmt: skip

    def lines(self, run: str) -> Iterator[str]:
        """The counts for people."""
        yield f"backtest of {run}: {self.ticks} ticks in this process, no evidence for its verdict, nothing stored"
        for kind in Kind:
            if self._now[kind.value] or self._was[kind.value]:
                was = f" (in the run {self._was[kind.value]})" if self._was else ""
                yield f"  {kind.value:<16}  {self._now[kind.value]}{was}"
        for tick, (was, now) in list(self._changed.items())[:20]:
            yield f"  tick {tick}: {was} in the run, {now} here"
        if len(self._changed) > 20:
            yield f"  and {len(self._changed) - 20} more ticks that are judged otherwise"
        yield from (finding.sentence for finding in self.findings)
