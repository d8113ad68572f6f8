"""Gates: what must have been seen, whatever it showed. They are no statistics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from reports.policy import Policy
from reports.statistics import more_ticks, rate_lower, rate_upper
from reports.tally import Evidence, FaultTrials, Noise

# Gates of which there is one for each kind: (title, sentence) for all of them together.
_FAMILIES = {
    "stratum": ("Ticks of each kind", "ticks compared of each kind"),
    "fault": ("Drills of each kind", "drills done of each kind"),
}
# Kinds that are named; of a job with many of them the rest is counted.
_MOST_KINDS = 15


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
    """Every gate of the policy. An interrupted run is never enough, nor is an empty one; a paused one
    has no end that it could miss."""
    need, whole = policy.gates, evidence.compared
    alive = evidence.status in ("running", "done", "paused")
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
    if not evidence.interval_s and evidence.time_scale >= 1:
        yield Gate(
            name="interval", title="Ticks have an interval", is_met=False, have=0.0, need=1.0,
            sentence="ticks ran back to back, so whether they fit their interval is not known: run with `--every`",
        )  # fmt: skip
    if need.hours:
        left = max(0.0, need.hours - evidence.hours)
        hours = "hour" if _amount("hours", evidence.hours) == "1" else "hours"
        gate = _gate("hours", "Hours of real time", evidence.hours, need.hours, f"{hours} of real time seen")
        yield replace(gate, hours_left=left)
    if need.ticks_per_stratum:
        for stratum, ticks in evidence.strata.items():
            yield _gate(
                f"stratum/{stratum}", f"Ticks of kind {stratum}", ticks, need.ticks_per_stratum,
                f"ticks of kind {stratum} compared",
            )  # fmt: skip
    if need.trials_per_fault:
        wanted = dict.fromkeys(need.faults, FaultTrials()) | dict(evidence.faults)
        for kind, trials in (wanted or {"any kind": FaultTrials()}).items():
            yield _gate(
                f"fault/{kind}", f"Drills of {_plain(kind)}", trials.n, need.trials_per_fault,
                f"drills of {_plain(kind)} done",
            )  # fmt: skip
    for step, noise in evidence.noise.items():
        # Where the old system agreed with itself and nothing is subtracted for noise, noise hides nothing: each
        # difference counts in full, so a small sample of it need not hold up a run.
        if noise.old_differs or (noise.n and policy.noise.critical):
            yield _quiet(step, noise, policy)


def folded(found: Iterable[Gate]) -> list[Gate]:
    """The gates in their order, those of ticks of each kind, and those of drills of each kind, as one gate if several
    are met, or several are not: people read one line, and not one for each kind."""
    alike: dict[tuple[str, bool], list[Gate]] = {}
    for gate in found:
        family = gate.name.partition("/")[0]
        alike.setdefault((family if family in _FAMILIES else gate.name, gate.is_met), []).append(gate)
    return [gates[0] if len(gates) == 1 else _one(family, gates) for (family, _), gates in alike.items()]


def _one(family: str, gates: Sequence[Gate]) -> Gate:
    """The gates of a family as one; kinds that have least are named first."""
    title, what = _FAMILIES[family]
    named = [
        f"{_plain(gate.name.partition('/')[2])} {_amount(family, gate.have)}"
        for gate in sorted(gates, key=lambda gate: gate.have)
    ]
    more = [f"and {len(named) - _MOST_KINDS} more"] if len(named) > _MOST_KINDS else []
    return replace(
        gates[0], name=family, title=title, have=min(gate.have for gate in gates),
        sentence=f"{what}, {_amount(family, gates[0].need)} needed: {', '.join([*named[:_MOST_KINDS], *more])}",
    )  # fmt: skip


def is_noisy(noise: Noise, policy: Policy) -> bool:
    """Whether the old system is shown to differ from itself more often than the policy allows, so that its answers
    say little about the new one's."""
    return rate_lower(noise.old_differs, noise.n, policy.alpha) >= policy.gates.noise


def more_for(gate: Gate, evidence: Evidence, *, at_rate: bool) -> int | None:
    """Further ticks that a gate takes; 0 where ticks do not help, None where no number of them will do.

    at_rate: at the shares seen so far, instead of at the least.
    """
    missing = 0 if gate.is_met else max(0, math.ceil(gate.need - gate.have))
    if gate.name.startswith("stratum/") and at_rate and gate.have:
        return math.ceil(missing * evidence.compared / gate.have)
    if gate.name == "completeness" and not gate.is_met:
        if at_rate or gate.need == 1:
            return None
        return math.ceil((gate.need * evidence.started - evidence.compared) / (1 - gate.need) - 1e-9)
    return missing if gate.name == "ticks" or gate.name.startswith("stratum/") else 0


def _quiet(step: str, noise: Noise, policy: Policy) -> Gate:
    most = policy.gates.noise
    upper = rate_upper(noise.old_differs, noise.n, policy.alpha)
    seen = f"the old system differs from itself in step {step} on {noise.old_differs} of {noise.n} ticks"
    if is_noisy(noise, policy):
        sentence = f"{seen}, so the step cannot be compared: make it repeatable, or compare the noisy field by form"
    elif upper < most:
        sentence = f"{seen}: at most {100 * upper:.2g} %"
    else:
        counts = {1.0: noise.old_differs, 0.0: noise.n - noise.old_differs}
        more = more_ticks(counts, most, 0.0, 1.0, "below", policy.alpha, {0.0: 1.0})
        sentence = (
            f"{seen}, which may be as many as {100 * upper:.2g} %; less than {100 * most:g} % must be shown"
            + (f": at least {more} further ticks on which it runs twice" if more else "")
        )
    return Gate(
        name=f"noise/{step}", title=f"Step {step} is repeatable", is_met=upper < most, have=upper, need=most,
        sentence=sentence,
    )  # fmt: skip


def _plain(kind: str) -> str:
    return kind.replace("_", " ")


def _gate(name: str, title: str, have: float, need: float, what: str) -> Gate:
    return Gate(
        name=name, title=title, is_met=have >= need, have=have, need=need,
        sentence=f"{_amount(name, have)} {what}, {_amount(name, need)} needed",
    )  # fmt: skip


def _amount(name: str, value: float) -> str:
    """A number for people, rounded down, so that what is not enough never looks like enough."""
    if name == "completeness":
        return f"{math.floor(value * 10_000 + 1e-9) / 100:g} %"
    return f"{math.floor(value * 100 + 1e-9) / 100:.2f}".rstrip("0").rstrip(".")
