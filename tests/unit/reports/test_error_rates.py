"""How often verdicts are wrong, and how long they take: by dynamic programming where that can tell, else by seeded
runs."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable

import pytest

from reports.evidence import EPS_SHARE
from reports.statistics import BELOW, log_e_blocks, log_e_diff, log_e_rate

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


@pytest.mark.parametrize(("ticks", "expected"), [(DAY, 0.034), (20_000, 0.043)])
def test_a_system_at_its_budget_is_seldom_ever_passed(ticks: int, expected: float) -> None:
    """Looked at after every tick, the chance of ever passing at the boundary stays below 5 %."""
    found = sum(_first_passage(BUDGET, ticks, _passes(ticks)))
    assert found == pytest.approx(expected, abs=0.002)
    assert found < 0.05


@functools.cache
def _most_of_fixed_size(ticks: int) -> tuple[int, ...]:
    """The same for the exact 5 % test of Clopper and Pearson: the most events of which so few or fewer have a chance
    of 5 % at most."""
    found: list[int] = []
    most, chance, share = -1, 0.0, 1.0  # share: P(S = most + 1); chance: P(S <= most)
    for n in range(1, ticks + 1):
        # From n - 1 to n ticks: P(S <= s) loses those who had s and now have one more.
        chance -= BUDGET * math.comb(n - 1, most) * BUDGET**most * (1 - BUDGET) ** (n - 1 - most) if most >= 0 else 0
        share = math.comb(n, most + 1) * BUDGET ** (most + 1) * (1 - BUDGET) ** (n - most - 1)
        if chance + share <= 0.05:
            most, chance = most + 1, chance + share
        found.append(most)
    return tuple(found)


@pytest.mark.parametrize(("ticks", "expected"), [(DAY, 0.094), (20_000, 0.276)])
def test_a_fixed_sample_bound_looked_at_every_tick_would_not_do(ticks: int, expected: float) -> None:
    """The exact 5 % test of fixed size passes such a system far more often than it says, and the more often one
    looks the more so: why it is not used."""
    most = _most_of_fixed_size(ticks)
    assert sum(_first_passage(BUDGET, ticks, lambda s, n: s <= most[n - 1])) == pytest.approx(expected, abs=0.003)


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


def test_thirty_criteria_cost_a_good_system_nothing() -> None:
    """All thirty clean: READY at the tick at which each alone is passed. One at its boundary: READY within a day no
    more often than that one is passed, because READY needs them all."""
    clean = _first_passage(0.0, DAY, _passes(DAY))
    assert (_median_tick(clean), sum(clean)) == (694, pytest.approx(1.0))
    one = sum(_first_passage(BUDGET, DAY, _passes(DAY)))
    assert one * sum(clean) ** 29 == pytest.approx(0.035, abs=0.002)


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
    draw, runs, passed = random.Random(21), 6000, 0
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
    assert passed / runs == pytest.approx(0.031, abs=0.008)


def _followers(draw: random.Random, ticks: int) -> list[bool]:
    """Whether each tick was slower: half of them are, and neighbours resemble each other (AR(1), 0.9)."""
    level, found = draw.gauss(0, 1), []
    for _ in range(ticks):
        level = 0.9 * level + math.sqrt(1 - 0.81) * draw.gauss(0, 1)
        found.append(level > 0)
    return found


def _is_ever_passed(slower: list[bool], block: int) -> bool:
    """Whether block means of these ticks ever pass a budget of one half, looked at after every block."""
    logs = [math.log(weight) for _, weight in BELOW]
    for start in range(0, len(slower) - block + 1, block):
        mean = sum(slower[start : start + block]) / block
        for index, (fraction, _) in enumerate(BELOW):
            gain = fraction * (0.5 - mean) / 0.5
            logs[index] += math.log1p(gain) if gain > -1 else -math.inf
        top = max(logs)
        if top + math.log(math.fsum(math.exp(term - top) for term in logs)) >= math.log(20):
            return True
    return False


@pytest.mark.parametrize(("ticks", "block", "runs", "least", "most"), [
    (DAY, 60, 600, 0.005, 0.035), (10 * DAY, 60, 120, 0.01, 0.11), (DAY, 1, 100, 0.6, 0.83),
])  # fmt: skip
def test_blocks_are_what_makes_dependent_ticks_safe(
    ticks: int, block: int, runs: int, least: float, most: float
) -> None:
    """Slower ticks that follow each other fool a count of ticks (72 % within a day), and seldom one of block means
    (2 % within a day, 5 % within ten)."""
    draw = random.Random(22)
    fooled = sum(_is_ever_passed(_followers(draw, ticks), block) for _ in range(runs))
    assert least <= fooled / runs <= most


def test_wealth_kept_tick_by_tick_is_the_evidence_of_the_counts() -> None:
    """What the simulation above adds up step by step crosses where the function of counts does."""
    slower = [False] * 100 + [True] * 20
    for block in (1, 20):
        means: dict[float, int] = {}
        crossed = False
        for start in range(0, len(slower), block):
            mean = sum(slower[start : start + block]) / block
            means[mean] = means.get(mean, 0) + 1
            crossed = crossed or log_e_blocks(means, 0.5, "below") >= math.log(20)
        assert _is_ever_passed(slower, block) == crossed
        assert not _is_ever_passed([True] * 50, block)


def test_a_job_of_milliseconds_can_be_ready() -> None:
    """Where a job takes 3 ms and its port 9 ms, each tick is slower; against an interval of a minute that is nothing,
    and the share of the interval that is no slowness makes it pass. A port that takes seconds does not."""
    draw = random.Random(23)
    for extra_ms, passes in ((6.0, True), (2000.0, False)):
        means: dict[float, int] = {}
        for _ in range(24):
            slower = 0
            for _ in range(60):
                old, new = 3 * draw.lognormvariate(0, 0.2), (3 + extra_ms) * draw.lognormvariate(0, 0.2)
                slower += new > 1.1 * old + EPS_SHARE * 60_000
            means[slower / 60] = means.get(slower / 60, 0) + 1
        assert (log_e_blocks(means, 0.5, "below") >= math.log(20)) is passes
