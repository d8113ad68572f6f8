"""The plan of a switchover and its checks, in words for whoever has to agree at night."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from async_tick.guardrails import Guardrails, Usage
from async_tick.guardrails import lines as guardrail_lines
from async_tick.route import BOUNDARY_TIMEOUT_S, Route
from shadow.preflight import Check


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a switchover would do; immutable. tick: the next one of the loop's run. served: whether a loop is there.
    backup: its folder, None for none."""

    seen: Route
    run: str
    tick: int
    home: Path
    served: bool
    backup: Path | None
    guardrails: Guardrails


def render_checks(checks: Sequence[Check]) -> str:
    """One line a check."""
    width = max(len(check.name) for check in checks)
    return "\n".join(f"  {_mark(check)}  {check.name:<{width}}  {check.said}" for check in checks)


def _mark(check: Check) -> str:
    if not check.passed:
        return "FAILED"
    return "note  " if check.is_note else "ok    "


def render_plan(plan: Plan) -> str:
    """What moves, when, what is kept before that, who watches, and how to go back."""
    loop = (
        "it goes on by itself"
        if plan.served
        else f"no loop serves it now: `tickover serve --run {plan.run}` begins with the new system"
    )
    before = "nothing is backed up (--no-backup)"
    if plan.backup is not None:
        before = f"the database and the old system's home are copied to {plan.backup}, and restored once to prove it"
    lines = [
        ("what moves", f"the ticks of run {plan.run}, from tick {plan.tick} on: legacy -> async; {loop}"),
        ("what stays", f"the old system's code and its home, {plan.home}; nothing is deleted"),
        ("when", f"between two ticks: one that legacy is running is waited for, {BOUNDARY_TIMEOUT_S:g} s at most"),
        ("before that", before),
        ("guardrails", guardrail_sentence(plan.guardrails)),
        ("way back", 'tickover rollback --reason "..."'),
        ("", "at any time, also with workers, Redis or the loop dead; nothing that was written since is lost"),
    ]
    return "\n".join(f"  {name:<11}  {said}" for name, said in lines)


def guardrail_sentence(guardrails: Guardrails) -> str:
    """What sends the route back by itself."""
    said = guardrail_lines(guardrails, Usage())
    if not said:
        return "none: the policy has switched all of them off"
    window = f"in the first {guardrails.window_ticks} ticks the loop goes back to legacy by itself at more than this:"
    return "\n".join([window, *(f"  {'':<11}    {line.replace(': 0 of ', ': ')}" for line in said)])
