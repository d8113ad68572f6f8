"""Tests of reports.verdict: what the counts of a run lead to."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.plan import plan
from reports.policy import Policy, load_policy
from reports.tally import Bursts, Evidence, FaultTrials, Noise, Pairs, Quantile, Tally, evidence_from_json
from reports.verdict import Decision, Verdict, judge

STEPS = ("monologue", "goal_selection", "action", "curiosity", "beliefs", "social", "meta")
KINDS = ("killed_worker", "hang", "model_outage")


def good(n: int = 1440, **changes: Any) -> Evidence:
    """A day in which nothing went wrong, with twelve drills of each of three kinds."""
    clean = Tally(n=n)
    evidence = Evidence(
        behaviour_key="b", judgement_key="j", status="done", time_scale=1.0, interval_s=60.0, hours=n / 60, started=n,
        compared=n, whole=clean, steps=dict.fromkeys(STEPS, clean), failures=Pairs(n=n), tail=clean, far_tail=clean,
        deadline=clean, slower_blocks={0.0: n // 60}, strata={"day": n},
        faults={kind: FaultTrials(n=12, against_old=Pairs(n=12, old_only=4)) for kind in KINDS},
    )  # fmt: skip
    return replace(evidence, **changes)


@pytest.fixture
def production() -> Policy:
    return load_policy("production")


def criterion(verdict: Verdict, name: str) -> Any:
    return next(found for found in verdict.criteria if found.name == name)


def test_a_clean_day_is_ready(production: Policy) -> None:
    """All criteria pass, all gates are met, and no reason is left."""
    verdict = judge(good(), production)
    assert verdict.decision is Decision.READY
    assert verdict.reasons == ()
    assert verdict.needed.ticks_if_clean == 0


def test_one_mismatch_in_a_day_is_survived_and_two_are_not(production: Policy) -> None:
    """At 0.5 % one day passes with one mismatch (evidence 22.8:1), and not yet with two."""
    one = judge(good(whole=Tally(n=1440, bad=1)), production)
    assert one.decision is Decision.READY
    assert criterion(one, "mismatch").evidence == pytest.approx(22.8, abs=0.05)
    assert criterion(one, "mismatch").bound == pytest.approx(0.0049, abs=0.0001)
    assert judge(good(whole=Tally(n=1440, bad=2)), production).decision is Decision.KEEP_RUNNING


def test_what_is_needed_is_said(production: Policy) -> None:
    """Four failures on each side: 639 further clean ticks, 1308 at the rate so far."""
    verdict = judge(good(failures=Pairs(n=1440, new_only=4, old_only=4)), production)
    assert verdict.decision is Decision.KEEP_RUNNING
    assert (verdict.needed.ticks_if_clean, verdict.needed.ticks_at_rate) == (639, 1308)
    assert verdict.needed.seconds_if_clean == 639 * 60
    assert "+0.72 percentage points" in criterion(verdict, "failure").sentence


def test_a_broken_step_is_named(production: Policy) -> None:
    """A step that differs all the time makes NOT_READY, and the reasons name it."""
    steps = {**good().steps, "meta": Tally(n=300, bad=60)}
    verdict = judge(good(steps=steps), production)
    assert verdict.decision is Decision.NOT_READY
    assert "Step meta" in verdict.reasons[0]


def test_a_veto_bars_ready_whatever_the_counts_say(production: Policy) -> None:
    """One lost effect is enough."""
    verdict = judge(good(vetoes=("tick 7 lost an effect",)), production)
    assert verdict.decision is Decision.NOT_READY
    assert verdict.reasons[0] == "tick 7 lost an effect"


@pytest.mark.parametrize(
    "changes",
    [
        {"faults": {}},
        {"hours": 23.0},
        {"status": "interrupted"},
        {"started": 1500},
        {"strata": {"day": 1430, "night": 10}},
        {"whole": Tally()},
        {"steps": {**dict.fromkeys(STEPS, Tally(n=1440)), "curiosity": Tally()}},
        {"failures": Pairs()},
        {"deadline": Tally()},
    ],
    ids=["no drill", "too few hours", "interrupted", "incomplete", "a rare kind of tick", "nothing", "a step unseen",
         "no failures counted", "no deadline counted"],
)  # fmt: skip
def test_what_was_not_seen_is_never_a_pass(production: Policy, changes: dict[str, Any]) -> None:
    """Missing data keeps the run going, with a reason."""
    verdict = judge(good(**changes), production)
    assert verdict.decision is Decision.KEEP_RUNNING
    assert verdict.reasons


def test_an_empty_run_is_not_ready_under_any_policy() -> None:
    """No tick compared: KEEP_RUNNING."""
    empty = Evidence(
        behaviour_key="b", judgement_key="j", status="done", time_scale=0.01, interval_s=0.0, hours=0.0, started=0,
        compared=0,
    )  # fmt: skip
    for name in ("production", "scaled"):
        assert judge(empty, load_policy(name)).decision is Decision.KEEP_RUNNING


def test_unknown_ticks_count_as_the_worst_case(production: Policy) -> None:
    """Three ticks of unknown outcome in a day move the bound to 0.80 %; the best case is shown too."""
    verdict = judge(good(whole=Tally(n=1437, unknown=3)), production)
    found = criterion(verdict, "mismatch")
    assert found.bound == pytest.approx(0.0080, abs=0.0001)
    assert found.best_bound == pytest.approx(0.0024, abs=0.0001)
    assert verdict.decision is Decision.KEEP_RUNNING


def test_unverified_ticks_are_excused_up_to_their_budget(production: Policy) -> None:
    """Within their own budget they do not count as mismatches; beyond it they do."""
    few = judge(good(whole=Tally(n=1440, unverified=10)), production)
    assert criterion(few, "mismatch").bad == 0
    many = judge(good(whole=Tally(n=1440, unverified=100)), production)
    assert criterion(many, "mismatch").bad == 100 - 28
    assert many.decision is Decision.NOT_READY


def test_timings_of_a_scaled_run_are_advisory(production: Policy) -> None:
    """A scaled run is not barred by slow ticks, and says that it is scaled."""
    slow = Tally(n=1440, bad=1440)
    evidence = good(deadline=slow, tail=slow, time_scale=0.01, interval_s=0.6)
    assert judge(evidence, load_policy("scaled")).decision is Decision.READY
    assert "scaled" in judge(evidence, load_policy("scaled")).headline
    assert judge(good(deadline=slow), production).decision is Decision.NOT_READY


def test_rules_that_hide_something_are_not_silent(production: Policy) -> None:
    """The verdict without ignore rules stands beside the one with them."""
    verdict = judge(good(whole=Tally(n=1440, hidden=200)), production)
    assert verdict.decision is Decision.READY
    assert verdict.without_rules is Decision.NOT_READY
    assert judge(good(), production).without_rules is None


def test_a_step_that_seldom_applies_needs_more_ticks_of_the_run(production: Policy) -> None:
    """What is needed is said in ticks of the run, not of the step."""
    verdict = judge(good(steps={**good().steps, "meta": Tally(n=144)}), production)
    assert criterion(verdict, "mismatch/meta").more_if_clean == (694 - 144) * 10


def test_a_noisy_old_system_is_not_comparable(production: Policy) -> None:
    """A step on which the old system differs from itself cannot become READY."""
    verdict = judge(good(noise={"meta": Noise(n=400, old_differs=20)}), production)
    assert verdict.not_comparable == ("meta",)
    assert verdict.decision is Decision.KEEP_RUNNING


def test_bursts_are_warned_of(production: Policy) -> None:
    """Mismatches in a row are said to be so, with the bound that bursts would give."""
    verdict = judge(good(whole=Tally(n=1440, bad=6), bursts=Bursts(longest_streak=6, episodes=1)), production)
    assert verdict.dependence.warning is not None
    assert verdict.dependence.burst_bound == pytest.approx(10 * criterion(verdict, "mismatch").bound)
    assert judge(good(), production).dependence.warning is None


def test_a_lost_effect_in_a_drill_is_counted_for_the_candidate(production: Policy) -> None:
    """Recovery is pooled over kinds, and each kind has an advisory bound of its own."""
    faults = {**good().faults, "hang": FaultTrials(n=12, not_recovered=6, late=2)}
    verdict = judge(good(faults=faults), production)
    assert criterion(verdict, "recovered").bad == 6
    assert criterion(verdict, "recovered_in_time").bad == 8
    assert not criterion(verdict, "recovered/hang").critical


def test_quantiles_have_a_ratio_only_where_both_are_bounded(production: Policy) -> None:
    """An unbounded quantile has no ratio rather than a wrong one."""
    quantiles = (Quantile(p=0.5, new_upper_ms=50.0, old_lower_ms=100.0), Quantile(p=0.99, new_upper_ms=None,
                 old_lower_ms=200.0))  # fmt: skip
    assert [found.ratio for found in judge(good(quantiles=quantiles), production).quantiles] == [0.5, None]


def test_evidence_survives_json() -> None:
    """What is stored computes the same verdict again."""
    evidence = good(noise={"meta": Noise(n=4)}, quantiles=(Quantile(p=0.5, new_upper_ms=1.0, old_lower_ms=None),))
    assert evidence_from_json(json.loads(json.dumps(evidence.to_json()))) == evidence


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


def test_the_plan_says_when_ready_can_be_had(production: Policy) -> None:
    """A tick a minute: 694 clean ticks, 1409 with one mismatch, and a day of real time in any case."""
    found = plan(production, 60.0)
    assert (found.ticks_clean, found.ticks_after_one) == (694, 1409)
    assert found.seconds_clean == 24 * 3600
    assert plan(production, 600.0).seconds_clean == 694 * 600
