"""Tests of reports.statistics: reference values, and the laws that hold for any counts."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports import statistics

REFERENCE = json.loads((Path(__file__).parent / "statistics_vectors.json").read_text(encoding="utf-8"))
budgets = st.sampled_from([0.001, 0.005, 0.05, 0.3, 0.5, 0.9])
sizes = st.integers(min_value=0, max_value=400)


def _computed(function: str, arguments: list[Any]) -> Any:
    if function == "more_ticks":
        s, n, m, alpha, rate = arguments
        return statistics.more_ticks({1.0: s, 0.0: n - s}, m, 0, 1, "below", alpha, {1.0: rate, 0.0: 1 - rate})
    if function == "tau_int":
        return statistics.tau_int([0.0] * 50)
    if function == "log_e_blocks":
        return statistics.log_e_blocks({float(mean): n for mean, n in arguments[0].items()}, *arguments[1:])
    return getattr(statistics, function)(*arguments)


@pytest.mark.parametrize(
    "vector", REFERENCE["vectors"], ids=lambda vector: f"{vector['fn']}({', '.join(map(str, vector['args']))})"
)
def test_a_reference_value_is_met(vector: dict[str, Any]) -> None:
    """The value that an independent implementation with 60 digits gives."""
    found = _computed(vector["fn"], vector["args"])
    if isinstance(vector["expect"], list):
        assert list(found) == vector["expect"]
    else:
        assert found == pytest.approx(vector["expect"], abs=REFERENCE["tolerance"], rel=0)


@pytest.mark.parametrize("name", ["BELOW", "ABOVE"])
def test_the_grid_is_the_published_one(name: str) -> None:
    """Bets and weights are those of the reference, and the weights add up to 1."""
    grid = getattr(statistics, name)
    assert [list(bet) for bet in grid] == REFERENCE["grids"][name]
    assert math.fsum(weight for _, weight in grid) == pytest.approx(1, abs=1e-12)


@given(sizes, sizes, budgets, st.sampled_from([0.05, 0.01]))
def test_a_budget_is_passed_if_and_only_if_the_upper_bound_is_at_most_the_budget(
    s: int, more: int, m: float, alpha: float
) -> None:
    """Test and bound never contradict each other, also at the budget itself."""
    n = s + more
    passed = statistics.log_e_rate(s, n, m, "below") >= -math.log(alpha)
    assert passed == (statistics.rate_upper(s, n, alpha) <= m)


@given(sizes, sizes, budgets, st.sampled_from([0.05, 0.05 / 30]))
def test_a_budget_is_failed_if_and_only_if_the_lower_bound_is_at_least_the_budget(
    s: int, more: int, m: float, beta: float
) -> None:
    """The same for the other side."""
    n = s + more
    failed = statistics.log_e_rate(s, n, m, "above") >= -math.log(beta)
    assert failed == (statistics.rate_lower(s, n, beta) >= m)


@given(st.integers(0, 300), st.integers(1, 10_000_000), st.sampled_from([0.05, 0.01]))
@settings(deadline=None)
def test_the_rate_seen_lies_between_its_bounds(s: int, n: int, alpha: float) -> None:
    """Upper and lower bound never cross, and hold the rate seen, up to ten million ticks."""
    s = min(s, n)
    lower, upper = statistics.rate_lower(s, n, alpha), statistics.rate_upper(s, n, alpha)
    assert 0 <= lower <= s / n <= upper <= 1
    assert statistics.rate_upper(s, n, alpha / 2) >= upper and statistics.rate_lower(s, n, alpha / 2) <= lower


@given(st.integers(0, 500), st.sampled_from([0.005, 0.05, 0.3]), st.sampled_from([0.05, 0.01]))
def test_the_most_that_pass_and_the_fewest_that_fail_are_the_edges(n: int, m: float, alpha: float) -> None:
    """One event more than the most that pass does not, one fewer than the fewest that fail does not."""
    edge, threshold = statistics.s_max_below(n, m, alpha), -math.log(alpha)
    passes = [statistics.log_e_rate(s, n, m, "below") >= threshold for s in range(n + 1)]
    assert edge == max((s for s, passed in enumerate(passes) if passed), default=-1)
    fails = [statistics.log_e_rate(s, n, m, "above") >= threshold for s in range(n + 1)]
    assert statistics.s_min_above(n, m, alpha) == next((s for s, failed in enumerate(fails) if failed), n + 1)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 300))
def test_the_same_holds_for_differences(plus: int, minus: int, same: int) -> None:
    """Test and bound of a difference of rates agree as well."""
    n = plus + minus + same
    passed = statistics.log_e_diff(plus, minus, n, 0.005, "below") >= math.log(20)
    assert passed == (statistics.diff_upper(plus, minus, n, 0.05) <= 0.005)


@given(st.integers(0, 200), st.integers(1, 400), budgets, budgets)
def test_evidence_grows_with_the_budget_and_falls_with_each_event(s: int, n: int, m: float, other: float) -> None:
    """A larger budget is easier to keep, another event makes it harder; above, it is the other way round."""
    s = min(s, n - 1)
    low, high = sorted((m, other))
    below = [statistics.log_e_rate(s, n, budget, "below") for budget in (low, high)]
    above = [statistics.log_e_rate(s, n, budget, "above") for budget in (low, high)]
    assert below[0] <= below[1] + 1e-9 and above[0] >= above[1] - 1e-9
    assert statistics.log_e_rate(s + 1, n, m, "below") <= statistics.log_e_rate(s, n, m, "below") + 1e-9
    assert statistics.log_e_rate(s + 1, n, m, "above") >= statistics.log_e_rate(s, n, m, "above") - 1e-9


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.05, 0.1, 0.5, 1.0]), st.integers(0, 20)), max_size=8), st.randoms())
def test_counts_can_be_merged_in_any_order(parts: list[tuple[float, int]], random: Any) -> None:
    """The evidence depends on how often each value came, not on when or in which part."""

    def merged(given_parts: list[tuple[float, int]]) -> dict[float, float]:
        counts: dict[float, float] = {}
        for value, number in given_parts:
            counts[value] = counts.get(value, 0) + number
        return counts

    shuffled = list(parts)
    random.shuffle(shuffled)
    for side in ("below", "above"):
        one, other = (statistics.log_e(merged(each), 0.3, 0, 1, side) for each in (parts, shuffled))  # type: ignore[arg-type]
        assert one == pytest.approx(other, abs=1e-9) or one == other


@pytest.mark.parametrize("side", ["below", "above"])
def test_without_counts_there_is_no_evidence(side: Any) -> None:
    """Nothing seen says nothing: evidence 1, and the bound is the end of the range."""
    assert statistics.log_e({}, 0.3, 0, 1, side) == pytest.approx(0, abs=1e-12)
    assert statistics.log_e({0.0: 0, 1.0: 0}, 0.3, 0, 1, side) == pytest.approx(0, abs=1e-12)
    assert statistics.bound({}, 0.05, -1, 1, side) == (1 if side == "below" else -1)


@given(st.integers(1, 3000), st.sampled_from([0.05, 0.01, 0.2]))
def test_with_one_bet_the_clean_bound_is_the_exact_one(n: int, alpha: float) -> None:
    """A single bet of everything gives the bound of Clopper and Pearson for no event: 1 - alpha^(1/n)."""
    found = statistics.bound({0.0: n}, alpha, 0, 1, "below", ((1.0, 1.0),))
    assert found == pytest.approx(1 - alpha ** (1 / n), abs=1e-9)


@pytest.mark.parametrize("side", ["below", "above"])
@pytest.mark.parametrize("n", [1, 7, 40])
@pytest.mark.parametrize("m", [0.05, 0.3])
def test_evidence_is_fair_at_the_budget(n: int, m: float, side: Any) -> None:
    """At a true rate of exactly the budget the expected evidence is 1: nothing is won by betting."""
    expected = math.fsum(
        math.comb(n, s) * m**s * (1 - m) ** (n - s) * math.exp(statistics.log_e_rate(s, n, m, side))
        for s in range(n + 1)
    )
    assert expected == pytest.approx(1, abs=1e-9)


@given(st.integers(0, 5), st.integers(0, 500), st.sampled_from([0.005, 0.05]))
@settings(max_examples=40)
def test_the_estimate_of_what_is_needed_is_the_first_that_is_enough(s: int, clean: int, m: float) -> None:
    """So many further clean ticks pass the budget, and one fewer does not."""
    counts = {1.0: s, 0.0: clean}
    more = statistics.more_ticks(counts, m, 0, 1, "below", 0.05, {0.0: 1.0})
    assert more is not None
    threshold = math.log(20)
    assert statistics.log_e_rate(s, s + clean + more, m, "below") >= threshold
    assert more == 0 or statistics.log_e_rate(s, s + clean + more - 1, m, "below") < threshold


def test_a_rate_beyond_the_budget_is_never_enough() -> None:
    """At a rate above the budget no number of ticks will do."""
    assert statistics.more_ticks({1.0: 10, 0.0: 90}, 0.005, 0, 1, "below", 0.05, {1.0: 0.1, 0.0: 0.9}) is None


@pytest.mark.parametrize("m", [1e-9, 1e-6, 0.001, 0.5])
def test_clean_ticks_are_the_first_that_pass(m: float) -> None:
    """Also for budgets beyond any run, one tick fewer is not enough."""
    n = statistics.clean_ticks(m, 0.05)
    assert statistics.log_e_rate(0, n, m, "below") >= math.log(20) > statistics.log_e_rate(0, n - 1, m, "below")


@pytest.mark.parametrize("counts", [{0.0: -1}, {2.0: 1}, {-0.5: 3}])
def test_what_is_no_count_is_refused(counts: dict[float, float]) -> None:
    """A negative count or a value out of range would give evidence of nothing."""
    with pytest.raises(ValueError, match="is no count"):
        statistics.log_e(counts, 0.5, 0, 1, "below")


@pytest.mark.parametrize("n", [60, 2000, 6000])
def test_a_small_lower_bound_is_where_the_evidence_crosses(n: int) -> None:
    """Small is not rounded to nothing: one event in so many ticks."""
    lower = statistics.rate_lower(1, n, 0.05)
    assert lower > 0
    assert statistics.log_e_rate(1, n, lower, "above") == pytest.approx(math.log(20), abs=1e-6)


def test_a_lower_bound_that_is_next_to_nothing_is_nothing() -> None:
    """One event in ten million ticks shows no rate above 0; without events there is no lower bound either."""
    assert statistics.rate_lower(1, 10_000_000, 0.05) == 0
    assert statistics.bound({0.0: 1440}, 0.05, 0, 1, "above") == 0
    assert statistics.diff_lower(0, 0, 1440, 0.05) == pytest.approx(-0.0069, abs=0.001)


@pytest.mark.parametrize("m", [0.0, 1.0, -0.1, 2.0])
def test_a_budget_outside_the_range_is_refused(m: float) -> None:
    """A budget of 0 or 1 cannot be tested, and is not tested in silence."""
    with pytest.raises(ValueError, match="not inside"):
        statistics.log_e_rate(1, 10, m, "below")


def test_autocorrelation_is_found() -> None:
    """Each value repeated five times has a time of about five; alternating ones have none above 1."""
    import random

    draw = random.Random(7)
    repeated = [value for _ in range(2000) for value in [draw.random()] * 5]
    assert 4 < statistics.tau_int(repeated) < 6
    assert statistics.tau_int([0.0, 1.0] * 500) == 1


def test_millions_of_ticks_are_no_trouble() -> None:
    """Ten million ticks neither overflow nor lose the bound."""
    assert 0.0009 < statistics.rate_upper(10_000, 10_000_000, 0.05) < 0.00105
    assert statistics.s_max_below(10_000_000, 0.001, 0.05) == pytest.approx(9_750, abs=200)
