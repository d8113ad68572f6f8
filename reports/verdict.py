"""The verdict: may one switch? A pure function of evidence and policy."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from reports.criterion import Criterion, Status, answer
from reports.gates import Gate, folded, is_noisy, more_for
from reports.gates import gates as find_gates
from reports.policy import Policy
from reports.questions import questions as ask
from reports.statistics import rate_upper
from reports.tally import Earlier, Evidence, Quantile, Tally
from reports.text import counted, grouped, percent, points, times

# Bad ticks are thought to come in bursts of this many, at least, when the bound under dependence is printed.
LEAST_BURST = 10


class Decision(enum.StrEnum):
    """The verdict's three values."""

    READY = "READY"
    """No critical risk exceeds its budget; wrong at most once in 1/alpha for a system that exceeds one."""
    NOT_READY = "NOT_READY"
    """A critical budget is broken, or something bars READY whatever the counts say."""
    KEEP_RUNNING = "KEEP_RUNNING"
    """Neither is shown yet. It is no mild failure."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Needed:
    """What it still takes until READY, at the least and at the rates so far; immutable. None: no number will do, or
    none is known. trials: drills of faults."""

    ticks_if_clean: int | None
    ticks_at_rate: int | None
    seconds_if_clean: float | None
    seconds_at_rate: float | None
    trials_if_clean: int | None = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Dependence:
    """What the bound would be if bad ticks came in bursts; immutable. burst: ticks of one. warning: None if they do
    not seem to, or it would make no difference."""

    longest_streak: int
    episodes: int
    burst: int
    burst_bound: float
    warning: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantileRatio:
    """The most that a quantile of tick durations can have grown by; immutable and advisory: it assumes that traffic
    stays as it is. ratio: None if it is unbounded."""

    p: float
    ratio: float | None
    allowed: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The verdict and all that it rests on; immutable.

    reasons: why it is not READY, each a sentence, worst first. without_rules: what it would be if no rule hid
    anything; None if none did. not_comparable: steps whose old system differs from itself too often.
    """

    decision: Decision
    headline: str
    reasons: tuple[str, ...]
    criteria: tuple[Criterion, ...]
    gates: tuple[Gate, ...]
    vetoes: tuple[str, ...]
    needed: Needed
    dependence: Dependence
    quantiles: tuple[QuantileRatio, ...]
    not_comparable: tuple[str, ...]
    without_rules: Decision | None


def judge(evidence: Evidence, policy: Policy) -> Verdict:
    """The verdict that the evidence gives under the policy.

    READY needs every critical criterion, each at alpha (intersection-union, so no correction), and every gate.
    NOT_READY needs one critical criterion, or a step that seldom applies, broken at beta divided by their number (a
    union). It is not latched here:
    whoever stores verdicts keeps a NOT_READY for the version it was given for. Raises BadPolicy if the policy has a
    rule for a step that the workload does not have.
    """
    if evidence.steps:
        policy.check_steps(evidence.steps)
    criteria = _criteria(evidence, policy)
    together = _together(evidence, policy, criteria)
    gates = (*find_gates(evidence, policy), *_version(evidence.earlier, together))
    vetoes = (*evidence.vetoes, *_damage(evidence))
    noisy = tuple(step for step, noise in evidence.noise.items() if is_noisy(noise, policy))
    failed = [found for found in criteria if found.status is Status.FAIL]
    open_ = [found for found in criteria if not found.passes and found.status is not Status.FAIL]
    unmet = [gate for gate in gates if not gate.is_met]
    reasons = (
        *vetoes,
        *(_broken(found, policy) for found in failed),
        *(gate.sentence for gate in folded(unmet)),
        *(f"{found.title}: not decided. {found.sentence}" for found in open_),
    )
    decision = Decision.KEEP_RUNNING
    if vetoes or failed:
        decision = Decision.NOT_READY
    elif not (open_ or unmet):
        decision = Decision.READY
    return Verdict(
        decision=decision, headline=_headline(decision, evidence, policy, open_, unmet), reasons=reasons,
        criteria=criteria, gates=gates, vetoes=vetoes, needed=_needed(evidence, [*open_, *together], unmet, decision),
        dependence=_dependence(evidence, policy),
        quantiles=tuple(_ratio(quantile, policy.speed.factor) for quantile in evidence.quantiles),
        not_comparable=noisy, without_rules=_without_rules(evidence, policy),
    )  # fmt: skip


def _criteria(evidence: Evidence, policy: Policy) -> tuple[Criterion, ...]:
    questions = list(ask(evidence, policy))
    decisive = sum(question.decides for question in questions)
    return tuple(answer(question, policy.alpha, policy.beta / max(1, decisive)) for question in questions)


def _together(evidence: Evidence, policy: Policy, alone: Sequence[Criterion]) -> list[Criterion]:
    """Critical criteria that pass in this run alone, and not with what earlier runs of the version counted."""
    earlier = evidence.earlier
    if earlier is None:
        return []
    steps = {step: tally + earlier.steps.get(step, Tally()) for step, tally in evidence.steps.items()}
    both = replace(
        evidence, whole=evidence.whole + earlier.whole, steps=steps, failures=evidence.failures + earlier.failures,
        deadline=evidence.deadline + earlier.deadline,
    )  # fmt: skip
    passing = {found.name for found in alone if found.critical and found.status is Status.PASS}
    return [found for found in _criteria(both, policy) if found.name in passing and found.status is not Status.PASS]


def _version(earlier: Earlier | None, together: Sequence[Criterion]) -> Iterator[Gate]:
    """What is right for one run must be right for the version: starting again washes nothing away."""
    if earlier is None:
        return
    runs = "an earlier run of this version" if earlier.runs == 1 else f"{earlier.runs} earlier runs of this version"
    others = earlier.runs - earlier.same_rules
    if others:
        runs = f"{runs} ({others} with other rules, whose mismatches do not count)"
    said = f"with {runs} every budget is kept as well"
    if together:
        worst = ", ".join(
            f"{found.title} {counted(found.bad)} of {counted(found.n)}, at most {_amount(found, found.bound)}, "
            f"and {_amount(found, found.budget)} is allowed" for found in together[:3]
        )  # fmt: skip
        said = f"with {runs} it is not shown that every budget is kept: {worst}"
    yield Gate(
        name="version", title="All runs of the version together", is_met=not together, have=float(len(together)),
        need=0.0, sentence=said,
    )  # fmt: skip


def _amount(found: Criterion, value: float) -> str:
    return points(value) if found.unit == "difference" else percent(value)


def _broken(found: Criterion, policy: Policy) -> str:
    """Why a broken criterion is broken: what was seen, and how low the truth can be at the least."""
    unit = "percentage points" if found.unit == "difference" else "%"
    return (
        f"{found.title}: the budget is broken. {counted(found.bad - found.unknown)} of {counted(found.n)} count "
        f"against it; with {100 * (1 - policy.alpha):g} % confidence it is at least {100 * found.lower:.2f} {unit}, "
        f"and {100 * found.budget:g} {unit} is allowed."
    )


def _damage(evidence: Evidence) -> Iterator[str]:
    """Effects that the candidate lost or doubled under a fault: each bars READY at once, whatever the counts say."""
    for kind, trials in evidence.faults.items():
        for count, what in ((trials.lost, "loses"), (trials.doubled, "doubles")):
            if count:
                yield f"The new system {what} effects in {count} of {trials.n} drills of {kind.replace('_', ' ')}."


def _needed(evidence: Evidence, undecided: list[Criterion], unmet: list[Gate], decision: Decision) -> Needed:
    if decision is Decision.NOT_READY:
        return Needed(
            ticks_if_clean=None, ticks_at_rate=None, seconds_if_clean=None, seconds_at_rate=None, trials_if_clean=None
        )
    ticks = [found for found in undecided if found.group != "faults"]
    trials: list[int | None] = [found.more_if_clean for found in undecided if found.group == "faults"]
    trials.append(sum(math.ceil(gate.need - gate.have) for gate in unmet if gate.name.startswith("fault/")))
    clean = _most(
        [found.more_if_clean for found in ticks] + [more_for(gate, evidence, at_rate=False) for gate in unmet]
    )
    rate = _most([found.more_at_rate for found in ticks] + [more_for(gate, evidence, at_rate=True) for gate in unmet])
    hours_s = 3600 * max((gate.hours_left or 0.0 for gate in unmet), default=0.0)

    def seconds(more: int | None) -> float | None:
        return None if more is None else max(more * evidence.interval_s, hours_s)

    return Needed(
        ticks_if_clean=clean, ticks_at_rate=rate, seconds_if_clean=seconds(clean), seconds_at_rate=seconds(rate),
        trials_if_clean=_most(trials),
    )  # fmt: skip


def _most(numbers: list[int | None]) -> int | None:
    return None if None in numbers else max((number for number in numbers if number is not None), default=0)


def _dependence(evidence: Evidence, policy: Policy) -> Dependence:
    bursts, whole = evidence.bursts, evidence.whole
    bad = whole.bad + whole.unknown
    burst = max(LEAST_BURST, bursts.longest_streak)
    bound = rate_upper(bad, whole.n + whole.unknown, policy.alpha) if whole.n + whole.unknown else 1.0
    burst_bound = min(1.0, burst * bound)
    warning = None
    # A bound that is as good as 100 % already is not made worse by bursts.
    if whole.bad >= 2 and bursts.episodes < whole.bad and percent(burst_bound) != percent(bound):
        warning = (
            f"{grouped(whole.bad)} mismatches came in {times(bursts.episodes, 'episode')}, at most "
            f"{grouped(bursts.longest_streak)} in a row: if they come in bursts of {grouped(burst)} ticks, the "
            f"bound is {percent(burst_bound)} instead of {percent(bound)}"
        )
    return Dependence(
        longest_streak=bursts.longest_streak, episodes=bursts.episodes, burst=burst, burst_bound=burst_bound,
        warning=warning,
    )  # fmt: skip


def _ratio(quantile: Quantile, allowed: float) -> QuantileRatio:
    new, old = quantile.new_upper_ms, quantile.old_lower_ms
    return QuantileRatio(p=quantile.p, ratio=new / old if new is not None and old else None, allowed=allowed)


def _without_rules(evidence: Evidence, policy: Policy) -> Decision | None:
    bare = evidence.bare
    if bare is None:
        return None
    vetoes = (*evidence.vetoes, *bare.vetoes)
    shown = replace(evidence, whole=bare.whole, steps=bare.steps, vetoes=vetoes, bare=None)
    return judge(shown, policy).decision


def _headline(
    decision: Decision, evidence: Evidence, policy: Policy, undecided: list[Criterion], unmet: list[Gate]
) -> str:
    scaled = " (scaled run: it shows behaviour, not a day of real traffic)" if evidence.time_scale < 1 else ""
    if decision is Decision.READY:
        return (
            f"Safe to switch under policy {policy.name}: no critical risk exceeds its budget, which is wrong at most "
            f"{100 * policy.alpha:g} times in 100 for a system that exceeds one{scaled}."
        )
    if decision is Decision.NOT_READY:
        return f"Do not switch: something critical is broken under policy {policy.name}{scaled}."
    takes = _takes([found.group for found in undecided], [gate.name.partition("/")[0] for gate in unmet])
    return f"Not decided yet under policy {policy.name}: it takes {' and '.join(takes)}{scaled}."


def _takes(groups: list[str], gates: list[str]) -> list[str]:
    """What is missing until a decision, the first thing to do first."""
    kinds = (
        ("a run that is not cut off", "run" in gates),
        ("a look at every door", "observed" in gates),
        ("a run with an interval", "interval" in gates),
        ("more ticks", any(group != "faults" for group in groups)
         or not {"ticks", "completeness", "stratum", "version"}.isdisjoint(gates)),
        ("more hours of real time", "hours" in gates),
        ("drills of faults", "faults" in groups or "fault" in gates),
        ("an old system that agrees with itself", "noise" in gates),
    )  # fmt: skip
    return [what for what, is_missing in kinds if is_missing]
