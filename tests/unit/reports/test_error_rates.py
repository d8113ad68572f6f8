"""How often verdicts are wrong, and how long they take: by dynamic programming where that can tell, else by seeded
runs."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable

import pytest

from reports.statistics import log_e_blocks, log_e_diff, log_e_rate

BUDGET = 0.005
DAY = 1440


@functools.cache
def _most_passing(ticks: int, m: float = BUDGET, alpha: float = 0.05) -> tuple[int, ...]:
    """For each number of ticks: the most events with which the budget is passed, -1 for none."""
    found, most = [], -1
    for n in range(1, ticks + 1):
        while log_e_rate(most + 1, n, m, "below") >= -math.log(alpha) if most + 1 <= n else False:
            most += 1
        found.append(most)
    return tuple(found)


def _first_passage(p: float, ticks: int, stops: Callable[[int, int], bool]) -> list[float]:
    """The probability, for each tick, that events of rate `p` first meet `stops(events, ticks)` there."""
    alive, first = [1.0], []
    for n in range(1, ticks + 1):
        grown = [0.0] * (len(alive) + 1)
        for s, mass in enumerate(alive):
            grown[s] += mass * (1 - p)
            grown[s + 1] += mass * p
        stopped = 0.0
        for s, mass in enumerate(grown):
            if mass and stops(s, n):
                stopped += mass
                grown[s] = 0.0
        first.append(stopped)
        while len(grown) > 1 and grown[-1] < 1e-15:
            grown.pop()
        alive = grown
    return first


def _binomial(n: int, p: float, most: int) -> list[float]:
    return [math.comb(n, s) * p**s * (1 - p) ** (n - s) for s in range(min(n, most) + 1)]


def _median_tick(first: list[float]) -> int:
    total = 0.0
    for tick, mass in enumerate(first, 1):
        total += mass
        if total >= 0.5:
            return tick
    raise AssertionError(f"only {total:.3f} of the runs came to an end")


def _passes(ticks: int) -> Callable[[int, int], bool]:
    most = _most_passing(ticks)
    return lambda s, n: s <= most[n - 1]


@pytest.mark.parametrize(("ticks", "expected"), [(DAY, 0.034), (6000, 0.041)])
def test_a_system_at_its_budget_is_seldom_ever_passed(ticks: int, expected: float) -> None:
    """Looked at after every tick, the chance of ever passing at the boundary stays below 5 %."""
    found = sum(_first_passage(BUDGET, ticks, _passes(ticks)))
    assert found == pytest.approx(expected, abs=0.002)
    assert found < 0.05


def test_a_fixed_sample_bound_looked_at_every_tick_would_not_do() -> None:
    """The exact 5 % test of fixed size passes such a system twice as often as it says: why it is not used."""
    most = []
    for n in range(1, DAY + 1):
        total, allowed = 0.0, -1
        for s, mass in enumerate(_binomial(n, BUDGET, 25)):
            total += mass
            if total > 0.05:
                break
            allowed = s
        most.append(allowed)
    assert sum(_first_passage(BUDGET, DAY, lambda s, n: s <= most[n - 1])) == pytest.approx(0.094, abs=0.003)


@pytest.mark.parametrize(("truth", "expected"), [(0.0, 694), (0.0005, 694), (0.001, 1409)])
def test_how_long_a_good_system_takes(truth: float, expected: int) -> None:
    """The median tick at which a system inside its budget is passed."""
    assert _median_tick(_first_passage(truth, 2200, _passes(2200))) == expected


@pytest.mark.parametrize(("times", "expected"), [(5, 357), (10, 115), (50, 11)])
def test_how_long_a_bad_system_takes(times: int, expected: int) -> None:
    """The median tick at which one of thirty criteria is failed by a system that is so many times over its budget.

    The expected values are medians of simulated runs, so the exact ones may be a few per cent off.
    """
    threshold = -math.log(0.05 / 30)
    fails = functools.cache(lambda s, n: log_e_rate(s, n, BUDGET, "above") >= threshold)
    assert _median_tick(_first_passage(times * BUDGET, 700, fails)) == pytest.approx(expected, rel=0.08)


def test_thirty_criteria_at_their_budget_are_seldom_called_broken() -> None:
    """Divided among thirty criteria, a false NOT_READY stays rare; undivided, its chance would be above 40 %."""
    chances = {}
    for share in (30, 1):
        threshold = -math.log(0.05 / share)
        fails = functools.cache(lambda s, n, t=threshold: log_e_rate(s, n, BUDGET, "above") >= t)
        one = sum(_first_passage(BUDGET, DAY, fails))
        chances[share] = 1 - (1 - one) ** 30
    assert chances[30] == pytest.approx(0.014, abs=0.003)
    assert chances[1] == pytest.approx(0.413, abs=0.03)


def test_ten_thousand_runs_at_the_budget() -> None:
    """Of 10 000 seeded runs of three days at the boundary, looked at every tick, 5 % at most are ever passed."""
    ticks, draw = 3 * DAY, random.Random(20)
    most = _most_passing(ticks)
    # The first tick at which a number of events is still few enough.
    enough = {s: next((n for n, allowed in enumerate(most, 1) if allowed >= s), ticks + 1) for s in range(40)}
    passed = 0
    for _ in range(10_000):
        tick, events = 0, 0
        while tick <= ticks:
            # Between two events the evidence only grows, so the last tick before an event decides.
            tick += math.ceil(math.log(1 - draw.random()) / math.log(1 - BUDGET))
            if min(tick - 1, ticks) >= enough.get(events, ticks + 1):
                passed += 1
                break
            events += 1
    assert 0.02 < passed / 10_000 <= 0.05


def test_a_worse_pair_is_seldom_passed() -> None:
    """A system that fails 0.5 points more often than the old one is passed within a day in some 3 % of runs."""
    draw, runs, passed = random.Random(21), 1500, 0
    evidence = functools.cache(lambda plus, minus, n: log_e_diff(plus, minus, n, BUDGET, "below"))
    for _ in range(runs):
        plus = minus = 0
        for n in range(1, DAY + 1):
            old, new = draw.random() < 0.005, draw.random() < 0.01
            # Evidence falls only where the new system fails alone, so the tick before that is where to look.
            if (new and not old) or n == DAY:
                if evidence(plus, minus, n - 1) >= math.log(20):
                    passed += 1
                    break
                plus += 1
            minus += old and not new
    assert passed / runs == pytest.approx(0.031, abs=0.015)


def test_blocks_are_what_makes_dependent_ticks_safe() -> None:
    """Slower ticks that follow each other fool a count of ticks, and seldom one of block means."""
    draw, runs = random.Random(22), 150
    fooled = {60: 0, 1: 0}
    block_evidence = functools.cache(lambda counts: log_e_blocks(dict(counts), 0.5, "below"))
    tick_evidence = functools.cache(lambda s, n: log_e_rate(s, n, 0.5, "below"))
    for _ in range(runs):
        level, slower = draw.gauss(0, 1), []
        for _ in range(DAY):
            level = 0.9 * level + math.sqrt(1 - 0.81) * draw.gauss(0, 1)
            slower.append(level > 0)
        means: dict[float, int] = {}
        found = False
        for start in range(0, DAY, 60):
            mean = sum(slower[start : start + 60]) / 60
            means[mean] = means.get(mean, 0) + 1
            found = found or block_evidence(tuple(sorted(means.items()))) >= math.log(20)
        fooled[60] += found
        total = 0
        for n, value in enumerate(slower, 1):
            total += value
            if tick_evidence(total, n) >= math.log(20):
                fooled[1] += 1
                break
    assert fooled[60] / runs <= 0.06
    assert fooled[1] / runs >= 0.6
