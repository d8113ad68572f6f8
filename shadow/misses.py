"""Tape misses: calls of the candidate that the control never made, explained or shown beside the nearest call."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from shadow.diff import Change, Nature, changes
from shadow.observation import Graph, Observation, Outcome, StepStatus
from tickover.canonical import Json, canonical_text
from tickover.execution import Purpose
from tickover.tape import TapeEntry

# Requests are compared by this many characters when the nearest one is sought.
NEAREST_CHARS = 4000


@dataclass(frozen=True, kw_only=True, slots=True)
class Miss:
    """A call that was not on the tape; immutable. why: what on the other side explains it, None if nothing does."""

    step: str
    port: str
    method: str
    attempt: int
    request: Json
    why: str | None
    nearest: Json = None
    by_control: bool = False

    def change(self) -> tuple[Change, ...]:
        """The places at which an unexplained call parts from the nearest one; paths begin with port and method."""
        name = f"{self.port}.{self.method}"
        if self.nearest is None:
            if self.by_control:
                return (Change(path=(name,), nature=Nature.MISSING, control=self.request),)
            return (Change(path=(name,), nature=Nature.ADDED, candidate=self.request),)
        sides = (self.request, self.nearest) if self.by_control else (self.nearest, self.request)
        return tuple(replace(change, path=(name, *change.path)) for change in changes(*sides)) or (
            Change(path=(name,), nature=Nature.DUPLICATED, control=sides[0], candidate=sides[1]),
        )

    def to_json(self) -> dict[str, Any]:
        """The miss as a JSON document."""
        return {name: getattr(self, name) for name in self.__slots__}


def find_misses(
    entries: Iterable[TapeEntry], first: Observation, second: Observation, graph: Graph
) -> tuple[Miss, ...]:
    """The misses of whoever followed on the tape of one tick, each explained or beside the nearest of the first one's
    calls. The candidate follows, but where both run on copies in random order.

    A miss is explained by a timeout, error or retry on the other side: the first failed or gave up in that step, or
    in one that it depends on, or not all of the tick was seen; or the call belongs to a retry of the second.
    """
    tape = list(entries)
    own = [entry for entry in tape if not (entry.missed and entry.recorded_by == second.system)]
    by_control = second.purpose is Purpose.CONTROL
    # A control that followed may itself have given up, and then asked what no one else would.
    others = (first, second) if by_control else (first,)
    return tuple(
        _miss(entry, own, others, graph, by_control)
        for entry in tape
        if entry.missed and entry.recorded_by == second.system
    )


def _miss(
    entry: TapeEntry, own: Sequence[TapeEntry], others: Sequence[Observation], graph: Graph, by_control: bool
) -> Miss:
    why = next((why for other in others if (why := _trouble(entry, other, graph))), None) or _failure(entry, own)
    return Miss(
        step=entry.step,
        port=entry.port,
        method=entry.method,
        attempt=entry.attempt,
        request=entry.request,
        why=why,
        nearest=None if why else _nearest(entry, own),
        by_control=by_control,
    )


def _trouble(entry: TapeEntry, other: Observation, graph: Graph) -> str | None:
    if other.outcome is not Outcome.DONE:
        return f"{other.system} {other.outcome}"
    if other.state_disturbed:
        return f"a late write of an earlier tick fell into {other.system}'s tick"
    for name in (entry.step, *sorted(graph.before(entry.step))):
        seen = other.steps.get(name)
        if seen is not None and seen.status in (StepStatus.FAILED, StepStatus.GAVE_UP):
            return f"{other.system} {'failed' if seen.status is StepStatus.FAILED else 'gave up'} in {name}"
        if seen is not None and seen.attempts > 1:
            return f"{other.system} tried {name} {seen.attempts} times"
    return None


def _failure(entry: TapeEntry, own: Sequence[TapeEntry]) -> str | None:
    if entry.attempt > 1:
        return f"attempt {entry.attempt} of the one that followed"
    failed = next((other for other in own if other.step == entry.step and other.error is not None), None)
    return None if failed is None else f"a call of {failed.recorded_by} failed in {entry.step}"


def _nearest(entry: TapeEntry, own: Sequence[TapeEntry]) -> Json:
    same = [
        other for other in own if (other.step, other.port, other.method) == (entry.step, entry.port, entry.method)
    ]
    if not same:
        return None
    text = canonical_text(entry.request)[:NEAREST_CHARS]

    def likeness(other: TapeEntry) -> float:
        matcher = difflib.SequenceMatcher(None, text, canonical_text(other.request)[:NEAREST_CHARS], autojunk=True)
        return matcher.quick_ratio()

    return max(same, key=likeness).request
