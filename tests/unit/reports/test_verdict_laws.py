"""Laws of reports.verdict: what holds for any evidence."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from reports.criterion import Status
from reports.policy import from_json, load_policy
from reports.statistics import s_max_below
from reports.tally import Evidence, FaultTrials, Noise, Pairs, Tally, evidence_from_json
from reports.verdict import Decision, judge
from tests.unit.reports.verdict_sample import STEPS, good

few = st.integers(0, 4)


@st.composite
def tallies(draw: Any, n: int) -> Tally:
    """Counts of a step or of whole ticks, mostly near the boundary of READY."""
    bad, hidden, unverified = (draw(st.sampled_from([0, 0, 1, 2, 30])) for _ in range(3))
    return Tally(
        n=draw(st.sampled_from([0, 400, n])) + bad + hidden + unverified, bad=bad, hidden=hidden,
        unverified=unverified, unknown=draw(st.sampled_from([0, 0, 1, 3])),
    )  # fmt: skip


@st.composite
def any_evidence(draw: Any) -> Evidence:
    """Evidence of a good run with up to three things changed."""
    n = draw(st.integers(1000, 3000))
    clean = dict.fromkeys(STEPS, Tally(n=n))
    changes: dict[str, Callable[[], Any]] = {
        "whole": lambda: draw(tallies(n)),
        "steps": lambda: clean | {"meta": draw(tallies(n))},
        "failures": lambda: Pairs(n=n, new_only=draw(few), old_only=draw(few), unknown=draw(few)),
        "deadline": lambda: draw(tallies(n)),
        "status": lambda: draw(st.sampled_from(["running", "interrupted", "abandoned"])),
        "started": lambda: n + draw(st.integers(0, 60)),
        "time_scale": lambda: 0.01,
        "hours": lambda: 3.0,
        "noise": lambda: {"meta": Noise(n=draw(st.integers(4, 800)), old_differs=draw(few))},
        "faults": lambda: {"hang": FaultTrials(n=draw(st.integers(8, 80)), not_recovered=draw(few), late=draw(few),
                                               lost=draw(st.sampled_from([0, 0, 1])))},
        "vetoes": lambda: ("tick 7 lost an effect",),
        "unobserved": lambda: ("socket",),
        "strata": lambda: {"day": n - 5, "night": 5},
        "slower_blocks": lambda: {draw(st.sampled_from([0.0, 0.3, 0.9])): draw(few)},
    }  # fmt: skip
    chosen = draw(st.sets(st.sampled_from(sorted(changes)), max_size=3))
    return good(n, **{name: changes[name]() for name in sorted(chosen)})


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2000), st.integers(0, 30), st.integers(0, 30), st.sampled_from(["production", "scaled"]))
def test_more_mismatches_never_help(n: int, bad: int, more: int, name: str) -> None:
    """READY is never reached by a worse run of the same size."""
    policy = load_policy(name)
    order = [Decision.READY, Decision.KEEP_RUNNING, Decision.NOT_READY]
    better, worse = (
        judge(good(n, whole=Tally(n=n, bad=min(n, number))), policy).decision for number in (bad, bad + more)
    )
    assert order.index(better) <= order.index(worse)


@settings(max_examples=60, deadline=None)
@given(st.integers(1440, 6000), st.integers(0, 25))
def test_ready_is_passing(n: int, bad: int) -> None:
    """With all else in order, READY is given exactly where the most events that pass are not exceeded."""
    found = judge(good(n, whole=Tally(n=n, bad=bad)), load_policy("production")).decision
    assert (found is Decision.READY) == (bad <= s_max_below(n, 0.005, 0.05))


@settings(max_examples=80, deadline=None)
@given(any_evidence(), st.sampled_from(["production", "scaled"]))
def test_a_verdict_keeps_its_rules(evidence: Evidence, name: str) -> None:
    """READY: every critical criterion passes, every gate is met, nothing bars it and no reason is left; NOT_READY: a
    veto or a broken criterion; else something is named that is missing. What is stored gives the same again."""
    policy = load_policy(name)
    verdict = judge(evidence, policy)
    critical = [found for found in verdict.criteria if found.critical]
    broken = bool(verdict.vetoes) or any(found.status is Status.FAIL for found in critical)
    complete = all(found.status is Status.PASS for found in critical) and all(gate.is_met for gate in verdict.gates)
    assert (verdict.decision is Decision.NOT_READY) == broken
    assert (verdict.decision is Decision.READY) == (complete and not broken)
    assert (verdict.decision is Decision.READY) == (not verdict.reasons)
    for found in verdict.criteria:
        assert (found.status is Status.PASS) == (found.n > 0 and found.bound <= found.budget)
        assert (found.status is Status.NO_DATA) == (found.n == 0)
    stored = json.loads(json.dumps(evidence.to_json()))
    assert judge(evidence_from_json(stored), from_json(policy.to_json(), source="stored")) == verdict


@settings(max_examples=40, deadline=None)
@given(any_evidence(), st.sampled_from(["whole", "failures", "deadline", "steps", "faults"]))
def test_forgetting_evidence_never_makes_ready(evidence: Evidence, forgotten: str) -> None:
    """Without any one of what production asks for, no run is READY: no data is never a pass."""
    empty = {
        "whole": Tally(), "failures": Pairs(), "deadline": Tally(), "faults": {},
        "steps": {step: Tally() for step in evidence.steps},
    }  # fmt: skip
    bare = replace(evidence, time_scale=1.0, **{forgotten: empty[forgotten]})
    assert judge(bare, load_policy("production")).decision is not Decision.READY
