"""Gates: what must have been seen, whatever it showed. They are no statistics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from reports.policy import Policy
from reports.tally import Evidence, FaultTrials


@dataclass(frozen=True, kw_only=True, slots=True)
class Gate:
    """Something that must have been seen, whatever it showed; immutable.

    hours_left: hours of real time that are missing; None for what time alone does not bring.
    """

    name: str
    title: str
    is_met: bool
    have: float
    need: float
    sentence: str
    hours_left: float | None = None


def gates(evidence: Evidence, policy: Policy) -> Iterator[Gate]:
    """Every gate of the policy. An interrupted run is never enough, nor is an empty one."""
    need, whole = policy.gates, evidence.compared
    alive = evidence.status in ("running", "done")
    yield Gate(
        name="run", title="The run was not cut off", is_met=alive, have=float(alive), need=1.0,
        sentence=f"the run is {evidence.status}",
    )  # fmt: skip
    yield _gate("ticks", "Ticks compared", whole, max(1, need.ticks), "ticks compared")
    share = whole / evidence.started if evidence.started else 0.0
    yield _gate(
        "completeness", "Started ticks that were compared", share, need.completeness, "of the started ticks compared"
    )
    doors = [door for door in evidence.unobserved if door not in policy.waived]
    named = ", ".join(doors)
    yield Gate(
        name="observed", title="Every door is watched", is_met=not doors, have=float(len(doors)), need=0.0,
        sentence=f"what the old system did there was not compared: {named}; watch it, or name it under "
        "`waived` in the policy" if doors else "no door was used that nobody watches",
    )  # fmt: skip
    if need.hours:
        left = max(0.0, need.hours - evidence.hours)
        gate = _gate("hours", "Hours of real time", evidence.hours, need.hours, "hours of real time seen")
        yield replace(gate, hours_left=left)
    if need.ticks_per_stratum:
        for stratum, ticks in evidence.strata.items():
            yield _gate(
                f"stratum/{stratum}", f"Ticks of kind {stratum}", ticks, need.ticks_per_stratum,
                f"ticks of kind {stratum} compared",
            )  # fmt: skip
    if need.trials_per_fault:
        for kind, trials in (evidence.faults or {"any kind": FaultTrials()}).items():
            yield _gate(
                f"fault/{kind}", f"Drills of {kind.replace('_', ' ')}", trials.n, need.trials_per_fault,
                f"drills of {kind.replace('_', ' ')} done",
            )  # fmt: skip


def _gate(name: str, title: str, have: float, need: float, what: str) -> Gate:
    return Gate(
        name=name, title=title, is_met=have >= need, have=have, need=need,
        sentence=f"{have:.3g} {what}, {need:g} needed",
    )  # fmt: skip
