"""Tests of reports.verdict: what the counts of a run lead to."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from reports.criterion import Status
from reports.policy import BadPolicy, Policy, Rule, load_policy
from reports.statistics import s_min_above
from reports.tally import (
    Bare,
    Earlier,
    Evidence,
    FaultTrials,
    Noise,
    Pairs,
    Quantile,
    Tally,
    evidence_from_json,
)
from reports.verdict import Decision, Verdict, judge
from tests.unit.reports.verdict_sample import STEPS, good


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


def test_identical_systems_are_ready_at_the_published_tick(production: Policy) -> None:
    """With hours and drills in order: 694 clean ticks are READY, 693 are not yet, and say that one is missing."""
    assert judge(good(694, hours=24.0), production).decision is Decision.READY
    before = judge(good(693, hours=24.0), production)
    assert (before.decision, before.needed.ticks_if_clean) == (Decision.KEEP_RUNNING, 1)


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


def test_unknown_ticks_prove_nothing_against_a_version(production: Policy) -> None:
    """However many ticks a killed runner left open, they are no READY and no NOT_READY, which would stay when a
    resumed run has compared them; what was seen to differ beside them does break the budget."""
    left_open = judge(good(whole=Tally(n=5, unknown=5), failures=Pairs(n=5, unknown=5)), production)
    assert left_open.decision is Decision.KEEP_RUNNING
    assert criterion(left_open, "mismatch").lower == 0.0
    assert left_open.dependence.warning is None
    broken = judge(good(whole=Tally(n=20, bad=15, unknown=5)), production)
    assert broken.decision is Decision.NOT_READY
    assert "15 of 25 count against it" in broken.reasons[0]
    many = judge(good(whole=Tally(n=1_000_000, bad=1_000_000)), production)
    assert "1 000 000 of 1 000 000 count" in many.reasons[0].replace("\N{NARROW NO-BREAK SPACE}", " ")


def test_failures_of_unknown_outcome_count_against_the_new_system(production: Policy) -> None:
    """Three ticks of which it is not known how they ended are taken for failures of the new system alone."""
    verdict = judge(good(failures=Pairs(n=1437, unknown=3)), production)
    found = criterion(verdict, "failure")
    assert (found.n, found.bad, found.unknown) == (1440, 3, 3)
    assert found.status is Status.OPEN and found.best_bound < 0.005 < found.bound


def test_not_ready_is_shared_among_the_critical_criteria(production: Policy) -> None:
    """So many mismatches as would break one criterion alone at 5 % do not break one of many; so many as are too much
    for its share do."""
    critical = sum(found.critical for found in judge(good(), production).criteria)
    alone, shared = (s_min_above(1440, 0.005, 0.05 / share) for share in (1, critical))
    assert critical == 13 and alone < shared
    decisions = [judge(good(whole=Tally(n=1440, bad=bad)), production).decision for bad in (shared - 1, shared)]
    assert decisions == [Decision.KEEP_RUNNING, Decision.NOT_READY]


def test_small_budgets_are_told_in_digits_that_show_them(production: Policy) -> None:
    """A bound far below a percent is not printed as nothing."""
    policy = replace(production, mismatch=Rule(budget=0.00001))
    found = criterion(judge(good(1_000_000), policy), "mismatch")
    assert "at most 0.00035 % of ticks" in found.sentence and "0.001 % is allowed" in found.sentence


def test_what_is_advisory_warns_and_never_fails(production: Policy) -> None:
    """Slow ticks far over an advisory budget are a warning beside READY."""
    verdict = judge(good(tail=Tally(n=1440, bad=400)), production)
    assert criterion(verdict, "tail").status is Status.WARN
    assert verdict.decision is Decision.READY


def test_an_empty_run_meets_no_gate_on_ticks() -> None:
    """Also under a policy that asks for no number of ticks."""
    policy = replace(load_policy("scaled"), gates=replace(load_policy("scaled").gates, ticks=0))
    gates = {gate.name: gate for gate in judge(good(0), policy).gates}
    assert not gates["ticks"].is_met and not gates["completeness"].is_met


def test_unverified_ticks_are_excused_up_to_their_budget(production: Policy) -> None:
    """Within their own budget they do not count as mismatches; beyond it they do."""
    few = judge(good(whole=Tally(n=1440, unverified=10)), production)
    assert criterion(few, "mismatch").bad == 0
    many = judge(good(whole=Tally(n=1440, unverified=100)), production)
    assert criterion(many, "mismatch").bad == 100 - 28
    assert many.decision is Decision.NOT_READY
    every = judge(good(whole=Tally(n=1440, bad=40, unverified=1400)), production)
    assert criterion(every, "mismatch").bad == 40 + 1400 - 28


def test_timings_of_a_scaled_run_are_advisory(production: Policy) -> None:
    """A scaled run is not barred by slow ticks, and says that it is scaled."""
    slow = Tally(n=1440, bad=1440)
    evidence = good(deadline=slow, tail=slow, time_scale=0.01, interval_s=0.6)
    assert judge(evidence, load_policy("scaled")).decision is Decision.READY
    assert "scaled" in judge(evidence, load_policy("scaled")).headline
    assert judge(good(deadline=slow), production).decision is Decision.NOT_READY


def test_rules_that_hide_something_are_not_silent(production: Policy) -> None:
    """The verdict without rules stands beside the one with them, as counted without them in each step; what a rule
    hides may also bar READY by itself."""
    seen, clean = good(), Tally(n=1440)
    bare = Bare(whole=Tally(n=1440, bad=200), steps=seen.steps)
    verdict = judge(replace(seen, whole=Tally(n=1440, hidden=200), bare=bare), production)
    assert (verdict.decision, verdict.without_rules) == (Decision.READY, Decision.NOT_READY)
    one_step = Bare(whole=clean, steps={**seen.steps, "meta": Tally(n=1440, bad=60)})
    assert judge(replace(seen, bare=one_step), production).without_rules is Decision.NOT_READY
    lost = Bare(whole=clean, steps=seen.steps, vetoes=("A rule hid that an effect was lost.",))
    assert judge(replace(seen, bare=lost), production).without_rules is Decision.NOT_READY
    assert judge(replace(seen, bare=Bare(whole=clean, steps=seen.steps)), production).without_rules is Decision.READY
    assert judge(seen, production).without_rules is None


def test_a_noisy_old_system_is_not_comparable(production: Policy) -> None:
    """A step on which the old system differs from itself cannot become READY."""
    verdict = judge(good(noise={"meta": Noise(n=400, old_differs=20)}), production)
    assert verdict.not_comparable == ("meta",)
    assert verdict.decision is Decision.KEEP_RUNNING


def test_quantiles_have_a_ratio_only_where_both_are_bounded(production: Policy) -> None:
    """An unbounded quantile has no ratio rather than a wrong one."""
    quantiles = (Quantile(p=0.5, new_upper_ms=50.0, old_lower_ms=100.0), Quantile(p=0.99, new_upper_ms=None,
                 old_lower_ms=200.0))  # fmt: skip
    assert [found.ratio for found in judge(good(quantiles=quantiles), production).quantiles] == [0.5, None]


def test_evidence_survives_json() -> None:
    """What is stored computes the same verdict again."""
    evidence = good(noise={"meta": Noise(n=4)}, quantiles=(Quantile(p=0.5, new_upper_ms=1.0, old_lower_ms=None),))
    assert evidence_from_json(json.loads(json.dumps(evidence.to_json()))) == evidence


def test_hours_that_are_missing_are_not_called_ticks(production: Policy) -> None:
    """With all criteria passed, only time is missing: the headline and the estimate say so."""
    verdict = judge(good(hours=23.999), production)
    assert verdict.headline == "Not decided yet under policy production: it takes more hours of real time."
    assert verdict.needed.ticks_if_clean == 0
    assert verdict.needed.seconds_if_clean == pytest.approx(3.6)
    assert "23.99 hours of real time seen, 24 needed" in verdict.reasons


def test_an_incomplete_run_is_made_complete_by_so_many_ticks(production: Policy) -> None:
    """1440 of 1500 started ticks compared: 4 500 further complete ones make it 99 %; at the rate so far none do."""
    verdict = judge(good(started=1500), production)
    assert (verdict.needed.ticks_if_clean, verdict.needed.ticks_at_rate) == (4500, None)
    assert (1440 + 4500) / (1500 + 4500) == 0.99


def test_a_rare_kind_of_tick_takes_as_long_as_it_is_rare(production: Policy) -> None:
    """Ten of twenty seen in 1440 ticks: ten more at the least, and as long again at the share so far."""
    verdict = judge(good(strata={"day": 1430, "night": 10}), production)
    assert (verdict.needed.ticks_if_clean, verdict.needed.ticks_at_rate) == (10, 1440)


def test_an_old_system_that_agreed_with_itself_on_a_few_ticks_does_not_hold_up_a_run(production: Policy) -> None:
    """72 quiet triples of a day hide nothing, because nothing is subtracted; with one difference among them it must
    be shown that it is rare; where noise is subtracted it must be shown in any case."""
    quiet, once = {"meta": Noise(n=72)}, {"meta": Noise(n=72, old_differs=1)}
    assert judge(good(noise=quiet), production).decision is Decision.READY
    verdict = judge(good(noise=once), production)
    assert (verdict.decision, verdict.not_comparable) == (Decision.KEEP_RUNNING, ())
    assert any("on 1 of 72 ticks" in reason and "further ticks" in reason for reason in verdict.reasons)
    subtracting = replace(production, noise=replace(production.noise, critical=True))
    assert judge(good(noise=quiet), subtracting).decision is Decision.KEEP_RUNNING
    assert judge(good(noise={"meta": Noise(n=1440)}), subtracting).decision is Decision.READY


def test_ticks_back_to_back_say_nothing_about_an_interval(production: Policy) -> None:
    """In real time the deadline must have been put to the test; in scaled time it is advisory."""
    verdict = judge(good(interval_s=0.0), production)
    assert verdict.decision is Decision.KEEP_RUNNING and "--every" in verdict.reasons[0]
    assert judge(good(interval_s=0.0, time_scale=0.01), load_policy("scaled")).decision is Decision.READY


def test_a_rule_for_a_step_that_is_not_there_is_refused(production: Policy) -> None:
    """A slip in the name of a step is an error and not a rule that applies to nothing."""
    with pytest.raises(BadPolicy, match=r"`steps.metta` names no step of this workload; did you mean `meta`"):
        judge(good(), replace(production, steps={"metta": Rule(budget=0.1)}))


@pytest.mark.parametrize("made", [
    lambda: Tally(n=3, bad=4), lambda: Tally(n=3, bad=2, unverified=2), lambda: Tally(n=-1),
    lambda: Tally(unknown=-1),
    lambda: Pairs(n=1, new_only=1, old_only=1), lambda: FaultTrials(n=1, not_recovered=1, late=1),
    lambda: FaultTrials(n=1, lost=2), lambda: Noise(n=1, plus=1, minus=1), lambda: Noise(old_differs=1),
])  # fmt: skip
def test_counts_that_contradict_each_other_are_refused(made: Any) -> None:
    """More bad ticks than ticks would give a bound of nothing."""
    with pytest.raises(ValueError, match="contradict"):
        made()


def test_starting_again_washes_nothing_away(production: Policy) -> None:
    """A clean day after one with ten mismatches of the same version is not READY: together they exceed the budget,
    and it is said by how much and what it takes. After a clean day, or one that went by other rules, it is."""
    day = Tally(n=1440)
    steps = dict.fromkeys(STEPS, day)
    bad = Earlier(
        runs=2, same_rules=2, whole=Tally(n=1440, bad=10), steps=steps, failures=Pairs(n=1440), deadline=day
    )
    verdict = judge(good(earlier=bad), production)
    assert (verdict.decision, verdict.without_rules) == (Decision.KEEP_RUNNING, None)
    gate = next(gate for gate in verdict.gates if gate.name == "version")
    assert not gate.is_met and "with 2 earlier runs" in gate.sentence
    assert "10 of 2\N{NARROW NO-BREAK SPACE}880" in gate.sentence
    more = verdict.needed.ticks_if_clean
    assert more and judge(good(1440 + more, earlier=bad), production).decision is Decision.READY
    assert judge(good(1440 + more - 1, earlier=bad), production).decision is Decision.KEEP_RUNNING
    for clean in (replace(bad, whole=day), replace(bad, whole=Tally(), steps={})):
        assert judge(good(earlier=clean), production).decision is Decision.READY
    others = judge(good(earlier=replace(bad, whole=Tally(), steps={}, same_rules=0)), production)
    assert any("(2 with other rules, whose mismatches do not count)" in gate.sentence for gate in others.gates)
    failing = replace(bad, whole=day, failures=Pairs(n=1440, new_only=12))
    assert judge(good(earlier=failing), production).decision is Decision.KEEP_RUNNING
    late = replace(bad, whole=day, deadline=Tally(n=1440, bad=40))
    assert judge(good(earlier=late), production).decision is Decision.KEEP_RUNNING


def test_earlier_runs_never_make_ready(production: Policy) -> None:
    """However much of it there is, what earlier runs saw is no evidence for this one."""
    much = Tally(n=100_000)
    earlier = Earlier(
        runs=9, same_rules=9, whole=much, steps=dict.fromkeys(STEPS, much), failures=Pairs(n=100_000), deadline=much
    )
    assert judge(good(600, hours=30.0, earlier=earlier), production).decision is Decision.KEEP_RUNNING
    assert judge(good(0, earlier=earlier), production).decision is Decision.KEEP_RUNNING
