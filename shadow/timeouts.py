"""Step limits from what was observed: an upper bound of a high quantile of each step's durations, and a margin."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, text

from shadow.observation import StepStatus
from tickover.execution import System

# One-sided: the quantile lies above the bound with this probability at most.
ALPHA = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Lasted:
    """How long a step took in a tick in one system; immutable. duration_ms: of its last attempt, as measured."""

    tick: int
    step: str
    system: System
    status: StepStatus
    error: str | None
    attempts: int
    duration_ms: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Suggestion:
    """A limit for a step, or why there is none; immutable.

    seconds are at scale 1. limit_s: None if nothing can be proposed, and `why` says so. n: ticks it rests on;
    bound_s: the upper bound of the quantile, which is the value of this rank (from 1) of n; old_slower: ticks on
    which the old system took longer, whose time was then taken; cut_off: on which the run's own limit struck, so that
    only a least time is known; retried: on which it was tried again, and only its last attempt's time is known.
    """

    step: str
    n: int
    limit_s: float | None = None
    bound_s: float | None = None
    rank: int | None = None
    old_slower: int = 0
    cut_off: int = 0
    retried: int = 0
    why: str | None = None


@dataclass
class _Seen:
    values: list[float] = field(default_factory=list)
    old_slower: int = 0
    cut_off: int = 0
    retried: int = 0


def read_durations(engine: Engine, run: str) -> Iterator[Lasted]:
    """What both systems' steps took in a run, tick by tick."""
    query = text(
        "SELECT o.tick, o.system, s.key AS step, s.value ->> 'status' AS status, s.value ->> 'error' AS error, "
        "CAST(s.value ->> 'attempts' AS integer) AS attempts, "
        "CAST(s.value ->> 'duration_ms' AS double precision) AS duration_ms "
        "FROM shadow_observations o, json_each(o.document::json -> 'steps') s "
        "WHERE o.run = :run AND o.purpose IN ('control', 'candidate') ORDER BY o.tick"
    )
    with engine.connect().execution_options(stream_results=True, yield_per=2000) as connection:
        for row in connection.execute(query, {"run": run}):
            yield Lasted(
                tick=row.tick, step=row.step, system=System(row.system), status=StepStatus(row.status),
                error=row.error, attempts=row.attempts, duration_ms=row.duration_ms,
            )  # fmt: skip


def suggest(
    lasted: Iterable[Lasted], steps: Iterable[str], *, time_scale: float, quantile: float = 0.99, margin: float = 1.5
) -> list[Suggestion]:
    """A suggestion for each step, from the slower system of each tick. Pure.

    quantile: above which share of attempts the limit is to lie; margin: what the bound is multiplied with.
    """
    ticks: dict[tuple[str, int], dict[System, Lasted]] = {}
    for each in lasted:
        ticks.setdefault((each.step, each.tick), {})[each.system] = each
    seen: dict[str, _Seen] = {}
    for (step, _), sides in ticks.items():
        _add(seen.setdefault(step, _Seen()), sides, time_scale)
    return [_suggestion(step, seen.get(step, _Seen()), quantile, margin) for step in steps]


def _add(seen: _Seen, sides: Mapping[System, Lasted], time_scale: float) -> None:
    new, old = sides.get(System.ASYNC), sides.get(System.LEGACY)
    if new is None:
        return
    if new.error is not None and new.error.startswith("StepTimeout"):
        seen.values.append(math.inf)
        seen.cut_off += 1
    elif new.status is StepStatus.DONE and new.duration_ms is not None:
        longest = new.duration_ms
        seen.retried += new.attempts > 1
        # Of a step that the old system gave up it is not known how long it would have taken.
        if old is not None and old.status is StepStatus.DONE and (old.duration_ms or 0.0) > longest:
            longest = old.duration_ms or 0.0
            seen.old_slower += 1
        seen.values.append(longest / 1000 / time_scale)


def _suggestion(step: str, seen: _Seen, quantile: float, margin: float) -> Suggestion:
    n = len(seen.values)
    rank = upper_rank(n, quantile)
    known: dict[str, Any] = {
        "step": step, "n": n, "old_slower": seen.old_slower, "cut_off": seen.cut_off, "retried": seen.retried
    }  # fmt: skip
    if rank is None:
        needed = math.ceil(math.log(ALPHA) / math.log(quantile))
        return Suggestion(**known, why=f"{n} observations are too few for its p{quantile * 100:g}: it takes {needed}")
    bound_s = sorted(seen.values)[rank - 1]
    if math.isinf(bound_s):
        return Suggestion(
            **known, rank=rank,
            why=f"its limit struck on {seen.cut_off} of {n} ticks: raise it and run again to see how long it takes",
        )  # fmt: skip
    return Suggestion(**known, limit_s=_round_up(bound_s * margin), bound_s=bound_s, rank=rank)


def upper_rank(n: int, quantile: float, alpha: float = ALPHA) -> int | None:
    """The smallest rank (from 1) of n sorted values that bounds the quantile from above, wrong with a probability of
    alpha at most whatever the distribution (binomial order statistics); None if n is too small for any."""
    total, above = 0.0, 0
    while above < n:
        total += math.exp(
            math.lgamma(n + 1) - math.lgamma(above + 1) - math.lgamma(n - above + 1)
            + above * math.log1p(-quantile) + (n - above) * math.log(quantile)
        )  # fmt: skip
        if total > alpha:
            break
        above += 1
    return n - above + 1 if above else None


def _round_up(seconds: float) -> float:
    """The next number of whole seconds with two digits that count: nobody reads more out of a bound."""
    unit = 10 ** max(0, math.ceil(math.log10(max(seconds, 1.0))) - 2)
    return float(max(1, math.ceil(seconds / unit) * unit))
