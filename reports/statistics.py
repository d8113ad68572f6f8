"""Anytime-valid bounds from counts: mixture betting on a fixed grid.

A report is read again and again while evidence comes in; a test of fixed sample size is wrong under such peeking. The
evidence E here is a mixture of wealths of bets against a budget: whatever the dependence, and whenever anyone looks,
the probability that E ever reaches 1/alpha while the average rate is at the budget or beyond is at most alpha
(Ville's inequality; the mixture makes Wald's sequential test work for all alternatives at once). The grid is fixed on
purpose: bets that adapt to the data protect less, and depend on the order in which it came.

Everything is a function of counts, so order does not matter, counts can be merged, and nothing needs to be kept
between reports.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

Counts = Mapping[float, float]
Grid = Iterable[tuple[float, float]]
Side = Literal["below", "above"]

# Fractions of the wealth that is bet, and the weight of each bet; weights add up to 1. Bets that a rate is below a
# budget stake nearly everything, because most systems have no bad ticks at all.
BELOW: tuple[tuple[float, float], ...] = (
    (1.0, 0.36), (0.95, 0.11), (0.9, 0.11), (0.8, 0.09), (0.65, 0.07), (0.5, 0.06), (0.35, 0.05), (0.2, 0.05),
    (0.1, 0.04), (0.05, 0.03), (0.025, 0.02), (0.0125, 0.01),
)  # fmt: skip
ABOVE: tuple[tuple[float, float], ...] = tuple((2.0**-k, 0.1) for k in range(1, 11))

# Beyond this many further ticks an estimate means "never".
HORIZON = 10**7
# Lower bounds nearer to the end of the range than this share of it are that end: bisecting on would tell no more.
_NEGLIGIBLE = 1e-15


def log_e(counts: Counts, m: float, lo: float, hi: float, side: Side, grid: Grid | None = None) -> float:
    """The natural logarithm of the evidence that the mean of the counted values is on `side` of the budget `m`.

    counts: value in [lo, hi] -> how often (fractions are allowed). m: the budget, inside (lo, hi). side: "below"
    proves mean < m, "above" proves mean > m. grid: pairs of bet fraction and weight; None for the fixed one. Without
    counts it is 0. -inf: every bet was lost. Raises ValueError for a budget or value outside the range and for a
    count below 0.
    """
    if not lo < m < hi:
        raise ValueError(f"the budget {m} is not inside ({lo}, {hi})")
    seen = [(value, number) for value, number in counts.items() if number]
    for value, number in seen:
        if number < 0 or not lo <= value <= hi:
            raise ValueError(f"{number} times {value} is no count of a value in [{lo}, {hi}]")
    scale = hi - m if side == "below" else lo - m
    terms = []
    for fraction, weight in grid or (BELOW if side == "below" else ABOVE):
        term = math.log(weight)
        for value, number in seen:
            gain = fraction * (m - value) / scale
            term += number * math.log1p(gain) if gain > -1 else -math.inf
        terms.append(term)
    top = max(terms)
    if math.isinf(top):
        return top
    return top + math.log(math.fsum(math.exp(term - top) for term in terms))


def _rate(s: float, n: float) -> Counts:
    if not 0 <= s <= n:
        raise ValueError(f"{s} events in {n} ticks")
    return {1.0: s, 0.0: n - s}


def _difference(plus: float, minus: float, n: float) -> Counts:
    if plus < 0 or minus < 0 or plus + minus > n:
        raise ValueError(f"{plus} and {minus} events in {n} pairs")
    return {1.0: plus, -1.0: minus, 0.0: n - plus - minus}


def log_e_rate(s: float, n: float, m: float, side: Side) -> float:
    """Evidence from `s` events in `n` ticks against a rate of `m`."""
    return log_e(_rate(s, n), m, 0.0, 1.0, side)


def log_e_diff(plus: float, minus: float, n: float, m: float, side: Side) -> float:
    """Evidence from `n` pairs, `plus` with the event in the new system alone, `minus` in the old one alone, against a
    difference of rates of `m`."""
    return log_e(_difference(plus, minus, n), m, -1.0, 1.0, side)


def log_e_blocks(block_means: Counts, m: float, side: Side) -> float:
    """Evidence from means of complete blocks (mean -> number of blocks) against a mean of `m`."""
    return log_e(block_means, m, 0.0, 1.0, side)


def bound(counts: Counts, alpha: float, lo: float, hi: float, side: Side, grid: Grid | None = None) -> float:
    """The bound that the mean exceeds ("below": an upper one) or falls short of ("above": a lower one) with
    probability `alpha` at most, whenever anyone looks.

    Evidence is monotone in the budget, so the bound is where it crosses 1/alpha: a budget is passed if and only if
    the upper bound is at most the budget. Without counts it is `hi` or `lo`.
    """
    if not any(counts.values()):
        return hi if side == "below" else lo
    threshold = -math.log(alpha)
    bets = tuple(grid) if grid is not None else None
    inside, outside = (hi, lo) if side == "below" else (lo, hi)
    # `inside`: the nearest budget known to be passed (or the end of the range); `outside`: not passed.
    while True:
        middle = (inside + outside) / 2
        if middle in (inside, outside):
            return inside
        if side == "above" and outside - lo < _NEGLIGIBLE * (hi - lo):
            return lo
        if log_e(counts, middle, lo, hi, side, bets) >= threshold:
            inside = middle
        else:
            outside = middle


def rate_upper(s: float, n: float, alpha: float) -> float:
    """The upper bound of a rate, from `s` events in `n` ticks."""
    return bound(_rate(s, n), alpha, 0.0, 1.0, "below")


def rate_lower(s: float, n: float, alpha: float) -> float:
    """The lower bound of a rate, from `s` events in `n` ticks; 0 without events."""
    return bound(_rate(s, n), alpha, 0.0, 1.0, "above") if s else 0.0


def diff_upper(plus: float, minus: float, n: float, alpha: float) -> float:
    """The upper bound of a difference of rates, from pairs."""
    return bound(_difference(plus, minus, n), alpha, -1.0, 1.0, "below")


def diff_lower(plus: float, minus: float, n: float, alpha: float) -> float:
    """The lower bound of a difference of rates, from pairs."""
    return bound(_difference(plus, minus, n), alpha, -1.0, 1.0, "above")


def split_diff_upper(s_new: float, n_new: float, s_aa: float, n_aa: float, alpha: float) -> float:
    """The upper bound of a rate less another's lower bound, of two separate runs; much weaker than pairs."""
    return rate_upper(s_new, n_new, alpha / 2) - rate_lower(s_aa, n_aa, alpha / 2)


def _last(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The largest number in [low, high] for which `holds`, which is true up to somewhere; it holds at `low`."""
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def s_max_below(n: int, m: float, alpha: float) -> int:
    """The most events in `n` ticks with which the budget is passed; -1 if it is not even without any."""
    threshold = -math.log(alpha)
    return _last(lambda s: s < 0 or log_e_rate(s, n, m, "below") >= threshold, -1, n)


def s_min_above(n: int, m: float, alpha: float) -> int:
    """The fewest events in `n` ticks with which the budget is failed; n + 1 if it is not even with `n`."""
    threshold = -math.log(alpha)
    return _last(lambda s: s < 0 or log_e_rate(s, n, m, "above") < threshold, -1, n) + 1


def quantile_ranks(n: int, p: float, a: float) -> tuple[int, int]:
    """Ranks (from 1) of the sorted values between which the p-quantile lies, each side wrong with probability `a` at
    most, whenever anyone looks; 0 and n + 1 mean unbounded (Howard and Ramdas 2022, with this module's evidence)."""
    return n - s_min_above(n, 1 - p, a) + 1, n - s_max_below(n, 1 - p, a)


def clean_ticks(m: float, alpha: float) -> int:
    """How many ticks without any event it takes to pass a budget of `m`. Raises ValueError for a budget so small that
    no number of ticks can be told."""
    found = more_ticks({}, m, 0.0, 1.0, "below", alpha, {0.0: 1.0}, cap=10**18)
    if found is None:
        raise ValueError(f"a budget of {m} takes more ticks than can be counted")
    return found


def more_ticks(
    counts: Counts, m: float, lo: float, hi: float, side: Side, alpha: float, rates: Counts, cap: int = HORIZON
) -> int | None:
    """How many further ticks, with values at these rates, it takes until the evidence reaches 1/alpha; 0 if it is
    there, None if it takes more than `cap`.

    rates: value -> share of ticks. The evidence is log-convex in their number, so it crosses the threshold once.
    """
    threshold = -math.log(alpha)

    def reached(more: int) -> bool:
        values = set(counts) | set(rates)
        grown = {value: counts.get(value, 0.0) + more * rates.get(value, 0.0) for value in values}
        return log_e(grown, m, lo, hi, side) >= threshold

    if reached(0):
        return 0
    high = 1
    while not reached(high):
        if high >= cap:
            return None
        high = min(2 * high, cap)
    return _last(lambda more: not reached(more), high // 2, high) + 1


def tau_int(x: Sequence[float], c: float = 5) -> float:
    """The integrated autocorrelation time of a series, in its own steps: 1 if its values do not depend on each other
    or are constant. The window ends where it is `c` times the time found so far (Sokal 1997)."""
    mean = math.fsum(x) / len(x) if x else 0.0
    deviations = [value - mean for value in x]
    variance = math.fsum(value * value for value in deviations)
    if variance == 0:
        return 1.0
    tau = 1.0
    for lag in range(1, len(x)):
        tau += 2 * math.fsum(map(_product, deviations, deviations[lag:])) / variance
        if lag >= c * tau:
            break
    return max(1.0, tau)


def _product(left: float, right: float) -> float:
    return left * right
