"""Step limits from observations."""

from __future__ import annotations

import math
import random

import pytest

from shadow.observation import StepStatus
from shadow.timeouts import ALPHA, Lasted, suggest, upper_rank
from tickover.execution import System


def lasted(
    tick: int, ms: float | None, system: System = System.ASYNC, status: StepStatus = StepStatus.DONE,
    error: str | None = None, attempts: int = 1,
) -> Lasted:  # fmt: skip
    """What a step took in a tick."""
    return Lasted(
        tick=tick, step="think", system=system, status=status, error=error, attempts=attempts, duration_ms=ms
    )


@pytest.mark.parametrize("quantile", [0.5, 0.8, 0.95, 0.99])
@pytest.mark.parametrize("n", [1, 4, 13, 14, 58, 59, 298, 299, 1000])
def test_the_rank_bounds_the_quantile_and_no_smaller_one_does(n: int, quantile: float) -> None:
    """At the rank the exact binomial probability of being below the quantile is 5 % at most, and one rank lower it
    is not; where even the largest value does not do there is no rank."""

    def wrong(rank: int) -> float:
        """P(the value of that rank lies below the quantile): at least `rank` of n do."""
        return sum(math.comb(n, k) * quantile**k * (1 - quantile) ** (n - k) for k in range(rank, n + 1))

    rank = upper_rank(n, quantile)
    if rank is None:
        assert wrong(n) > ALPHA
    else:
        assert wrong(rank) <= ALPHA + 1e-9
        assert rank == 1 or wrong(rank - 1) > ALPHA - 1e-9


def test_many_values_need_no_more_memory_of_powers() -> None:
    """A million values have a rank, a little above their p99."""
    rank = upper_rank(1_000_000, 0.99)
    assert rank is not None and 990_100 < rank < 990_300


def test_the_bound_covers_the_true_quantile() -> None:
    """Over 400 samples from a known law the proposed bound lies below the true p95 in about 5 % of them at most."""
    source = random.Random(5)
    true_s = -math.log(0.05)
    below = 0
    for _ in range(400):
        sample = [lasted(tick, source.expovariate(1.0) * 1000) for tick in range(120)]
        (found,) = suggest(sample, ["think"], time_scale=1.0, quantile=0.95)
        assert found.bound_s is not None
        below += found.bound_s < true_s
    assert below <= 34


def test_too_few_observations_give_no_number() -> None:
    """298 ticks are too few for a p99 and 299 are not; a step that was never seen says so too."""
    ticks = [lasted(tick, 100.0) for tick in range(299)]
    few, none = suggest(ticks[:298], ["think", "rest"], time_scale=1.0)
    assert few.limit_s is None and few.why == "298 observations are too few for its p99: it takes 299"
    assert none.limit_s is None and none.n == 0
    (enough,) = suggest(ticks, ["think"], time_scale=1.0)
    assert (enough.n, enough.rank, enough.limit_s) == (299, 299, 1.0)


def test_seconds_are_at_scale_one_with_a_margin_and_rounded_up() -> None:
    """87 ms at a hundredth of real time are 8.7 s; half as much again, rounded up, is 14."""
    (found,) = suggest([lasted(tick, 87.0) for tick in range(60)], ["think"], time_scale=0.01, quantile=0.95)
    assert found.bound_s == pytest.approx(8.7) and found.limit_s == 14.0
    (long,) = suggest([lasted(tick, 86_700.0) for tick in range(60)], ["think"], time_scale=1.0, quantile=0.95)
    assert long.limit_s == 140.0


def test_the_slower_system_counts() -> None:
    """Where the old system took longer its time is taken and counted, but not where it gave up."""
    ticks = [lasted(tick, 1000.0) for tick in range(60)]
    old = [lasted(tick, 3000.0, System.LEGACY) for tick in range(30)]
    gave_up = [lasted(tick, 9000.0, System.LEGACY, StepStatus.GAVE_UP) for tick in range(30, 60)]
    (found,) = suggest([*ticks, *old, *gave_up], ["think"], time_scale=1.0, quantile=0.95)
    assert (found.bound_s, found.old_slower, found.n) == (3.0, 30, 60)


def test_a_limit_that_struck_hides_how_long_it_takes() -> None:
    """Cut-off attempts are longer than any other; where the bound falls among them there is no number."""
    ticks = [lasted(tick, 1000.0) for tick in range(60)]
    cut = lasted(60, 2000.0, status=StepStatus.FAILED, error="StepTimeout: step 'think' ran into its limit")
    (found,) = suggest([*ticks, cut], ["think"], time_scale=1.0, quantile=0.95)
    assert found.limit_s is None and found.why is not None and "struck on 1 of 61" in found.why
    failed = lasted(60, 2000.0, status=StepStatus.FAILED, error="PortError: refused")
    (other,) = suggest([*ticks, failed], ["think"], time_scale=1.0, quantile=0.95)
    assert (other.n, other.limit_s) == (60, 2.0)
