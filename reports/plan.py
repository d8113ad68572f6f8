"""The plan of a run: when READY can be had at the earliest."""

from __future__ import annotations

from dataclasses import dataclass

from reports.policy import Policy, Rule
from reports.statistics import more_ticks


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanRow:
    """How many ticks a criterion takes; immutable. after_one: with one bad tick among them; None: it fails then."""

    name: str
    budget: float
    critical: bool
    clean: int | None
    after_one: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """When READY can be had at the earliest; immutable. Seconds are real ones, the gate on hours included."""

    rows: tuple[PlanRow, ...]
    ticks_clean: int
    ticks_after_one: int | None
    seconds_clean: float
    seconds_after_one: float | None


def plan(policy: Policy, every_s: float, time_scale: float = 1.0) -> Plan:
    """What a run under this policy takes. every_s: seconds from tick to tick at scale 1. Steps are assumed
    to apply on each tick."""
    names = ("mismatch", "step_mismatch", "unverified", "failure", "tail", "far_tail", "deadline")
    rules: list[tuple[str, Rule]] = [(name, getattr(policy, name)) for name in names]
    rules += [(f"mismatch/{step}", rule) for step, rule in policy.steps.items()]

    def row(name: str, rule: Rule) -> PlanRow:
        lo = -1.0 if name == "failure" else 0.0
        clean, one = (
            more_ticks({1.0: bad}, rule.budget, lo, 1.0, "below", policy.alpha, {0.0: 1.0}) for bad in (0, 1)
        )
        timing = name in ("tail", "far_tail", "deadline") and time_scale < 1
        after = None if one is None else one + 1
        return PlanRow(
            name=name, budget=rule.budget, critical=rule.critical and not timing, clean=clean, after_one=after
        )

    rows = tuple(row(name, rule) for name, rule in rules)
    least = policy.gates.ticks
    clean = max([least, *(found.clean or 0 for found in rows if found.critical)])
    with_one = [found.after_one for found in rows if found.critical]
    after = None if None in with_one else max(number for number in with_one if number is not None)
    interval_s, hours_s = every_s * time_scale, policy.gates.hours * 3600
    return Plan(
        rows=rows, ticks_clean=clean, ticks_after_one=None if after is None else max(after, least),
        seconds_clean=max(clean * interval_s, hours_s),
        seconds_after_one=None if after is None else max(after * interval_s, hours_s),
    )  # fmt: skip
