"""Questions: which criteria a policy asks of the evidence."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from reports.criterion import Question, of_blocks, of_pairs, of_tally
from reports.policy import Policy, Rule
from reports.tally import Evidence, FaultTrials, Pairs, Tally


def questions(evidence: Evidence, policy: Policy) -> Iterator[Question]:
    """Every criterion of the policy, with the counts that answer it."""
    whole = evidence.whole
    yield of_tally(
        "mismatch", "Equal results, effects and state", "equality", policy.mismatch, _excuse(whole, policy),
        "differ without an explanation",
    )  # fmt: skip
    for step, tally in evidence.steps.items():
        rule = policy.step(step)
        # Its differences count against whole ticks in any case; READY need not wait until it has applied often.
        is_seldom = step not in policy.steps and 0 < tally.n < policy.gates.seldom * (tally.n + tally.not_applied)
        yield of_tally(
            f"mismatch/{step}", f"Step {step}", "equality", replace(rule, critical=rule.critical and not is_seldom),
            _excuse(tally, policy), f"differ first in step {step}",
            share=max(tally.n, 1) / max(whole.n, tally.n, 1), condemns=rule.critical,
        )  # fmt: skip
    yield of_tally(
        "unverified", "Ticks that nothing could confirm", "equality", policy.unverified,
        Tally(n=whole.n, bad=whole.unverified), "could not be confirmed",
    )  # fmt: skip
    yield of_pairs("failure", "Failed, late and lost ticks", "failures", policy.failure, evidence.failures, "fail")
    # Waits scale with a scaled run, the machinery's own time does not: its timings are for information.
    scaled = evidence.time_scale < 1

    def timing(rule: Rule) -> Rule:
        return replace(rule, critical=rule.critical and not scaled)

    speed, tail, far = policy.speed, policy.tail, policy.far_tail
    slower = f"take more than {speed.factor:g} times the old system's time"
    yield of_blocks("speed", "Typical speed", "speed", timing(speed), evidence.slower_blocks, slower)
    for name, title, rule, tally in (
        ("tail", "Slow ticks", tail, evidence.tail), ("far_tail", "Very slow ticks", far, evidence.far_tail),
    ):  # fmt: skip
        what = f"take more than {rule.factor:g} times the old system's time"
        yield of_tally(name, title, "speed", timing(rule), tally, what)
    if evidence.interval_s > 0:
        yield of_tally(
            "deadline", "Ticks that fit their interval", "speed", timing(policy.deadline), evidence.deadline,
            "take longer than their interval, or do not end",
        )  # fmt: skip
    yield from _fault_questions(evidence, policy)
    for step, noise in evidence.noise.items():
        pairs = Pairs(n=noise.n, new_only=noise.plus, old_only=noise.minus)
        what = f"differ in step {step} beyond the old system's own noise"
        yield of_pairs(f"noise/{step}", f"Noise of step {step}", "noise", policy.noise, pairs, what)


def _fault_questions(evidence: Evidence, policy: Policy) -> Iterator[Question]:
    if not evidence.faults and not policy.gates.trials_per_fault:
        return
    kinds = evidence.faults
    pooled = FaultTrials(
        n=sum(kind.n for kind in kinds.values()), not_recovered=sum(kind.not_recovered for kind in kinds.values()),
        late=sum(kind.late for kind in kinds.values()), lost=sum(kind.lost for kind in kinds.values()),
        doubled=sum(kind.doubled for kind in kinds.values()),
        against_old=Pairs(
            n=sum(kind.against_old.n for kind in kinds.values()),
            new_only=sum(kind.against_old.new_only for kind in kinds.values()),
            old_only=sum(kind.against_old.old_only for kind in kinds.values()),
            unknown=sum(kind.against_old.unknown for kind in kinds.values()),
        ),
    )  # fmt: skip
    within = policy.recovered_in_time
    yield _of_trials(
        "recovered", "Recovery from faults", policy.recovered, pooled, pooled.not_recovered, "are not recovered from"
    )
    yield _of_trials(
        "recovered_in_time", f"Recovery within {within.within_s:g} s", within, pooled,
        pooled.not_recovered + pooled.late, f"take longer than {within.within_s:g} s, or are not recovered from",
    )  # fmt: skip
    yield _of_trials(
        "fault_damage", "Effects lost or doubled by faults", policy.fault_damage, pooled,
        pooled.lost + pooled.doubled, "lose or double an effect",
    )  # fmt: skip
    advisory = replace(policy.recovered, critical=False)
    if pooled.against_old.n or pooled.against_old.unknown:
        yield of_pairs(
            "recovered/than_old", "Recovery against the old system", "faults", advisory, pooled.against_old,
            "are not recovered from", of="faults",
        )  # fmt: skip
    for kind, trials in kinds.items():
        title = f"Recovery from {kind.replace('_', ' ')}"
        yield _of_trials(f"recovered/{kind}", title, advisory, trials, trials.not_recovered, "are not recovered from")


def _of_trials(name: str, title: str, rule: Rule, trials: FaultTrials, bad: int, what: str) -> Question:
    return of_tally(name, title, "faults", rule, Tally(n=trials.n, bad=bad), what, of="faults")


def _excuse(tally: Tally, policy: Policy) -> Tally:
    """Unverified ticks count as mismatches beyond their own budget; up to it, the criterion `unverified` has them."""
    excess = max(0, tally.unverified - math.floor(policy.unverified.budget * tally.n))
    return replace(tally, bad=tally.bad + excess, unverified=tally.unverified - excess)
