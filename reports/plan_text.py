"""A plan as text: when READY can be had at the earliest."""

from __future__ import annotations

from reports import text
from reports.plan import Plan, PlanRow
from reports.policy import Policy

_HEAD = "  {:<28}{:>10}{:>14}{:>14}"


def render(policy: Policy, plan: Plan, every_s: float, time_scale: float) -> str:
    """The plan of a run under a policy, at most 100 columns wide."""
    scaled = "" if time_scale == 1 else f", scaled to {time_scale:g} of real time"
    gates = policy.gates
    lines = [
        f"Policy {policy.name}, a tick every {text.hours(every_s)}{scaled}",
        f"  READY at the earliest after {_ticks(plan.ticks_clean, plan.seconds_clean, ' without any fault')}",
        f"  with one bad tick among them after {_ticks(plan.ticks_after_one, plan.seconds_after_one)}",
        "",
        _HEAD.format("criterion", "budget", "all clean", "one bad tick"),
        *map(_row, plan.rows),
    ]
    if plan.drills:
        lines += ["", _HEAD.format("in drills of faults", "budget", "all clean", "one bad drill")]
        lines += map(_row, plan.drills)
    needs = [f"{gates.hours:g} h of real time"] if gates.hours else []
    needs += [f"{gates.ticks} ticks"] if gates.ticks else []
    needs += [f"{gates.ticks_per_stratum} ticks of each kind"] if gates.ticks_per_stratum else []
    needs += [f"{gates.trials_per_fault} drills of each fault"] if gates.trials_per_fault else []
    needs += [f"{100 * gates.completeness:g} % of the started ticks compared"]
    return "\n".join([*lines, "", f"  and: {', '.join(needs)}"])


def _ticks(ticks: int | None, seconds: float | None, how: str = "") -> str:
    if ticks is None:
        return "more ticks than can be told"
    return f"{text.times(ticks, 'tick')}{how}: {text.hours(seconds)}"


def _row(row: PlanRow) -> str:
    clean, after = ("never" if more is None else text.grouped(more) for more in (row.clean, row.after_one))
    name = row.name if row.critical else f"{row.name} (advisory)"
    return _HEAD.format(text.plain(name, 27), text.percent(row.budget), clean, after)
