"""The plan of a run: when READY can be had at the earliest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from reports.policy import Policy, Rule
from reports.statistics import more_ticks

# Criteria that are counted tick by tick or in blocks of ticks, and those that are counted in drills.
_BY_TICK = (
    "mismatch", "step_mismatch", "unverified", "failure", "speed", "tail", "far_tail", "deadline",
)  # fmt: skip
_TIMING = ("speed", "tail", "far_tail", "deadline")
_BY_DRILL = ("recovered", "recovered_in_time", "fault_damage")


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanRow:
    """How many ticks (drills, for faults) a criterion takes; immutable. after_one: with one bad one among them.
    None: more than can be told."""

    name: str
    budget: float
    critical: bool
    clean: int | None
    after_one: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """When READY can be had at the earliest; immutable. Seconds are real ones, the gate on hours included. drills:
    rows of criteria that are counted in drills; drills_clean, drills_after_one: how many it takes in all. None: more
    than can be told."""

    rows: tuple[PlanRow, ...]
    ticks_clean: int | None
    ticks_after_one: int | None
    seconds_clean: float | None
    seconds_after_one: float | None
    drills: tuple[PlanRow, ...]
    drills_clean: int | None
    drills_after_one: int | None


def plan(policy: Policy, every_s: float, time_scale: float = 1.0) -> Plan:
    """What a run under this policy takes. every_s: seconds from tick to tick at scale 1. Steps are assumed
    to apply on each tick."""
    rows = tuple(
        _row(name, rule, policy.alpha, critical=rule.critical and not (name in _TIMING and time_scale < 1))
        for name, rule in _by_tick(policy)
    )
    asked = policy.gates.trials_per_fault
    drills = tuple(_row(name, getattr(policy, name), policy.alpha) for name in _BY_DRILL) if asked else ()
    least = max(1, policy.gates.ticks)
    clean, after = _most(rows, least)
    drills_clean, drills_after = _most(drills, asked * max(1, len(policy.gates.faults)))
    interval_s, hours_s = every_s * time_scale, policy.gates.hours * 3600

    def seconds(ticks: int | None) -> float | None:
        return None if ticks is None else max(ticks * interval_s, hours_s)

    return Plan(
        rows=rows, ticks_clean=clean, ticks_after_one=after, seconds_clean=seconds(clean),
        seconds_after_one=seconds(after), drills=drills, drills_clean=drills_clean, drills_after_one=drills_after,
    )  # fmt: skip


def _by_tick(policy: Policy) -> Iterator[tuple[str, Rule]]:
    for name in _BY_TICK:
        yield name, getattr(policy, name)
    for step, rule in policy.steps.items():
        yield f"mismatch/{step}", rule


def _row(name: str, rule: Rule, alpha: float, *, critical: bool | None = None) -> PlanRow:
    lo = -1.0 if name == "failure" else 0.0
    # One bad tick makes its block bad by its share of it.
    one = {1 / rule.block: 1.0}
    clean, more = (more_ticks(seen, rule.budget, lo, 1.0, "below", alpha, {0.0: 1.0}) for seen in ({}, one))
    return PlanRow(
        name=name, budget=rule.budget, critical=rule.critical if critical is None else critical,
        clean=None if clean is None else clean * rule.block,
        after_one=None if more is None else (more + 1) * rule.block,
    )  # fmt: skip


def _most(rows: tuple[PlanRow, ...], least: int) -> tuple[int | None, int | None]:
    """What the critical rows take together, `least` at the least: without a bad one, and with one."""
    found: list[int | None] = []
    for numbers in ([row.clean for row in rows if row.critical], [row.after_one for row in rows if row.critical]):
        known = [number for number in numbers if number is not None]
        found.append(max([least, *known]) if len(known) == len(numbers) else None)
    return found[0], found[1]
