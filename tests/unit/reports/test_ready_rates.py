"""How often READY is said of a system that just breaks a budget: seeded runs, judged by the verdict itself."""

from __future__ import annotations

import functools
import math
import random

import pytest

from reports.policy import Policy, load_policy
from reports.tally import Earlier, Pairs, Tally
from reports.verdict import Decision, judge
from tests.unit.reports.verdict_sample import good

DAY, BUDGET, RUNS = 1440, 0.005, 10_000


@functools.cache
def production() -> Policy:
    return load_policy("production")


def is_ready(n: int, bad: int, before: int = 0, bad_before: int = 0) -> bool:
    """Whether a run of so many ticks, in which all else is in order, is READY; `before`: ticks of earlier runs."""
    clean = Tally(n=before)
    earlier = Earlier(
        runs=1, same_rules=1, whole=Tally(n=before, bad=bad_before), steps={"meta": clean}, deadline=clean,
        failures=Pairs(n=before),
    )  # fmt: skip
    seen = good(
        n, whole=Tally(n=n, bad=bad), steps={"meta": Tally(n=n)}, hours=24.0, earlier=earlier if before else None
    )  # fmt: skip
    return judge(seen, production()).decision is Decision.READY


@functools.cache
def first_ready(bad: int, ticks: int) -> int:
    """The first tick at which a run with so many mismatches is READY; `ticks` + 1 if none is."""
    if bad > BUDGET * ticks:
        return ticks + 1  # a rate above the budget does not show that it is kept
    low, high = first_ready(bad - 1, ticks) if bad else 0, ticks + 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_ready(middle, bad) else (middle + 1, high)
    return low


def gaps(draw: random.Random, share: float) -> int:
    """Ticks until the next mismatch, that one counted."""
    return math.ceil(math.log(1 - draw.random()) / math.log(1 - share))


def test_ready_comes_at_the_ticks_that_are_promised() -> None:
    """Without a mismatch at 694 ticks, with one at 1409; more ticks never take READY away while nothing happens."""
    assert [first_ready(bad, 3 * DAY) for bad in (0, 1)] == [694, 1409]
    for bad in range(5):
        first = first_ready(bad, 3 * DAY)
        assert not is_ready(first - 1, bad) and all(is_ready(n, bad) for n in range(first, 3 * DAY, 499))


def test_ten_thousand_runs_at_a_budget_are_seldom_ever_ready() -> None:
    """Three days each, looked at after every tick, mismatches at exactly the budget: READY is said in 5 % at most,
    and not so seldom that it could be had with less evidence."""
    draw, ever = random.Random(31), 0
    for _ in range(RUNS):
        tick = bad = 0
        while tick < 3 * DAY:
            tick += gaps(draw, BUDGET)
            # Between two mismatches the evidence only grows: the tick before the next one decides.
            if min(tick - 1, 3 * DAY) >= first_ready(bad, 3 * DAY):
                ever += 1
                break
            bad += 1
    assert 0.02 < ever / RUNS <= 0.05


@pytest.mark.parametrize(("together", "least", "most"), [(True, 0.01, 0.05), (False, 0.10, 0.30)])
def test_starting_again_until_a_run_is_ready_does_not_help(together: bool, least: float, most: float) -> None:
    """Whoever starts a system at its budget anew each day, six times, is told READY in 5 % at most; if runs were
    judged each by itself it would be more than 10 %."""
    draw, ever, days = random.Random(32), 0, 6
    for _ in range(RUNS // 4):
        before = bad_before = 0
        for _ in range(days):
            tick = bad = 0
            ready = False
            while tick <= DAY and not ready:
                tick += gaps(draw, BUDGET)
                seen = min(tick - 1, DAY)
                ready = seen >= first_ready(bad, DAY) and (
                    not together or seen + before >= first_ready(bad + bad_before, days * DAY)
                )
                bad += tick <= DAY
            if ready:
                ever += 1
                break
            before, bad_before = before + DAY, bad_before + bad
    assert least < ever / (RUNS // 4) <= most


def test_the_table_that_is_looked_up_is_the_verdict() -> None:
    """At random states of a second run, what the simulation above looks up is what the verdict says."""
    draw = random.Random(33)
    said = []
    for _ in range(60):
        n, bad = draw.randint(600, DAY), draw.choice([0, 0, 1])
        before, bad_before = draw.randint(1, 5) * DAY, draw.randint(0, 20)
        looked_up = n >= first_ready(bad, DAY) and n + before >= first_ready(bad + bad_before, 6 * DAY)
        said.append(is_ready(n, bad, before, bad_before))
        assert said[-1] == looked_up
    assert 8 < sum(said) < 52
