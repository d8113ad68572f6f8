"""A plan as text: when READY can be had at the earliest."""

from __future__ import annotations

from reports import text
from reports.plan import Plan
from reports.policy import Policy


def render(policy: Policy, plan: Plan, every_s: float, time_scale: float) -> str:
    """The plan of a run under a policy, at most 100 columns wide."""
    scaled = "" if time_scale == 1 else f", scaled to {time_scale:g} of real time"
    gates = policy.gates
    lines = [
        f"Policy {policy.name}, a tick every {text.hours(every_s)}{scaled}",
        f"  READY at the earliest after {text.times(plan.ticks_clean, 'tick')} without any fault: "
        f"{text.hours(plan.seconds_clean)}",
    ]
    if plan.ticks_after_one is None or plan.seconds_after_one is None:
        lines.append("  with one bad tick among them: not to be had")
    else:
        lines.append(
            f"  with one bad tick among them after {text.times(plan.ticks_after_one, 'tick')}: "
            f"{text.hours(plan.seconds_after_one)}"
        )
    lines += ["", f"  {'criterion':<28}{'budget':>10}{'all clean':>14}{'one bad tick':>14}"]
    for row in plan.rows:
        clean, after = ("never" if more is None else text.grouped(more) for more in (row.clean, row.after_one))
        name = row.name if row.critical else f"{row.name} (advisory)"
        lines.append(f"  {text.plain(name, 27):<28}{text.percent(row.budget):>10}{clean:>14}{after:>14}")
    needs = [f"{gates.hours:g} h of real time"] if gates.hours else []
    needs += [f"{gates.ticks} ticks"] if gates.ticks else []
    needs += [f"{gates.ticks_per_stratum} ticks of each kind"] if gates.ticks_per_stratum else []
    needs += [f"{gates.trials_per_fault} drills of each fault"] if gates.trials_per_fault else []
    needs += [f"{100 * gates.completeness:g} % of the started ticks compared"]
    return "\n".join([*lines, "", f"  and: {', '.join(needs)}"])
