"""What the page alone shows: curves and distributions, too large for a terminal, read only when a page is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reports.plots import Bar


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """One tick in both systems; immutable."""

    tick: int
    control_ms: float
    candidate_ms: float
    control: tuple[Bar, ...]
    candidate: tuple[Bar, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class BoundCurve:
    """How the bound of a criterion shrank: (ticks counted, bound); immutable."""

    criterion: str
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Details:
    """Curves of a report; immutable. control_ms and candidate_ms: durations at equal steps of share, ascending.
    ratio_bins: (ratio at the left edge, ticks). ratio_over_time: (last tick, 10th, 50th and 90th percentile)."""

    control_ms: Sequence[float]
    candidate_ms: Sequence[float]
    ratio_bins: Sequence[tuple[float, int]]
    ratio_limit: float | None
    ratio_over_time: Sequence[tuple[int, float, float, float]]
    timeline: Timeline | None
    bounds: Sequence[BoundCurve]
