"""Tests of docs/statistics.md: what it says is what the code does."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path

import pytest

from reports.criterion import Status
from reports.policy import Budgets, Gates, Policy, Rule, Switching, load_policy
from reports.statistics import clean_ticks, log_e_rate, more_ticks, rate_upper
from reports.verdict import judge
from tests.unit.reports.verdict_sample import good

PAGE = (Path(__file__).parents[3] / "docs" / "statistics.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| ([\d.]+) % \| (\d+) \| (\d+) \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("percent", "clean", "after_one"), ROWS)
def test_ticks_in_the_table_are_those_it_takes(percent: str, clean: str, after_one: str) -> None:
    """Each budget takes as many ticks as the page says, without a bad one and with one."""
    budget = float(percent) / 100
    more = more_ticks({1.0: 1}, budget, 0, 1, "below", 0.05, {0.0: 1.0})
    assert more is not None
    assert (clean_ticks(budget, 0.05), more + 1) == (int(clean), int(after_one))


def test_figures_in_the_text_are_computed_ones() -> None:
    """The example criterion, the cost of unknown ticks, and the ticks of several versions."""
    assert len(ROWS) == 5
    first, second, third = (_grouped(clean_ticks(0.005, 0.05 / (v * (v + 1)))) for v in (1, 2, 3))
    said = {
        f"at most {100 * rate_upper(1, 1440, 0.05):.2f} %",
        f"evidence {math.exp(log_e_rate(1, 1440, 0.005, 'below')):.1f}:1",
        f"from {100 * rate_upper(0, 1440, 0.05):.2f} % to {100 * rate_upper(3, 1440, 0.05):.2f} %",
        f"({_grouped(clean_ticks(0.005, 0.05 / 30))} clean ticks at 0.5 %)",
        f"({first}, {second} and {third} clean ticks at 0.5 %",
    }
    assert {figure for figure in said if figure not in PAGE} == set()


def test_what_is_advisory_in_a_scaled_run_is_named() -> None:
    """Under a policy in which everything is critical, those that the page calls timing criteria are so in real time
    alone; `deadline` is not asked where there is no interval."""
    named = re.search(r"Timing criteria \(([^)]*)\) are advisory at a time scale below 1", PAGE)
    policy = load_policy("production")
    rules = {name: rule for name in policy.to_json() if isinstance(rule := getattr(policy, name, None), Rule)}
    policy = dataclasses.replace(policy, **{name: dataclasses.replace(r, critical=True) for name, r in rules.items()})
    real, scaled, unpaced = (
        {found.name for found in judge(good(**how), policy).criteria if found.critical}
        for how in ({}, {"time_scale": 0.5}, {"interval_s": 0.0})
    )
    assert named is not None and set(re.findall(r"`(\w+)`", named[1])) == real - scaled
    assert "always critical in real time" in PAGE and real - unpaced == {"deadline"}


def _grouped(number: int) -> str:
    return f"{number:,}".replace(",", " ")


def test_each_word_of_a_policy_is_explained() -> None:
    """No key, criterion or status is left out."""
    fields = [each.name for kind in (Policy, Rule, Gates, Budgets, Switching) for each in dataclasses.fields(kind)]
    words = {*fields, *Status, *load_policy("production").to_json()} - {"name", "format", "gates", "steps"}
    assert {word for word in words if f"`{word}`" not in PAGE and f"| {word} |" not in PAGE} == set()
