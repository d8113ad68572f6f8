"""Tests of reports.verdict: what drills of faults lead to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reports.criterion import Status
from reports.gates import folded
from reports.policy import Policy, load_policy
from reports.tally import FaultTrials, Pairs
from reports.verdict import Decision, Verdict, judge
from tests.unit.reports.verdict_sample import good


@pytest.fixture
def production() -> Policy:
    return load_policy("production")


def criterion(verdict: Verdict, name: str) -> Any:
    return next(found for found in verdict.criteria if found.name == name)


def test_a_lost_effect_in_a_drill_is_counted_for_the_candidate(production: Policy) -> None:
    """Recovery is pooled over kinds, and each kind has an advisory bound of its own."""
    faults = {**good().faults, "hang": FaultTrials(n=12, not_recovered=6, late=2)}
    verdict = judge(good(faults=faults), production)
    assert criterion(verdict, "recovered").bad == 6
    assert criterion(verdict, "recovered_in_time").bad == 8
    assert not criterion(verdict, "recovered/hang").critical


@pytest.mark.parametrize("damage", ["lost", "doubled"])
def test_an_effect_that_a_drill_lost_or_doubled_is_a_veto(production: Policy, damage: str) -> None:
    """One is enough for NOT_READY, although the budget of its criterion is not shown to be broken."""
    faults = {**good().faults, "hang": FaultTrials(**{"n": 12, damage: 1})}
    verdict = judge(good(faults=faults), production)
    assert verdict.decision is Decision.NOT_READY
    assert "hang" in verdict.vetoes[0] and verdict.reasons[0] == verdict.vetoes[0]
    assert criterion(verdict, "fault_damage").status is not Status.FAIL


def test_kinds_of_fault_that_the_policy_names_must_have_been_drilled(production: Policy) -> None:
    """Fifty drills of one kind do not stand for another."""
    policy = replace(production, gates=replace(production.gates, faults=("hang", "killed_runner")))
    faults = {"hang": FaultTrials(n=50)}
    verdict = judge(good(faults=faults), policy)
    assert verdict.decision is Decision.KEEP_RUNNING
    assert [gate.name for gate in verdict.gates if not gate.is_met] == ["fault/killed_runner"]
    assert verdict.needed.trials_if_clean == 5
    assert "drills of faults" in verdict.headline and "ticks" not in verdict.headline


def test_a_kind_of_fault_that_was_never_drilled_holds_ready_up(production: Policy) -> None:
    """A kind that can be drilled and was not is in the evidence without drills: five are needed."""
    verdict = judge(good(faults={**good().faults, "database_restart": FaultTrials()}), production)
    assert verdict.decision is Decision.KEEP_RUNNING
    assert verdict.reasons == ("0 drills of database restart done, 5 needed",)
    assert criterion(verdict, "recovered/database_restart").status is Status.NO_DATA


def test_drills_of_unknown_outcome_count_against_the_new_system(production: Policy) -> None:
    """Beside the old system, a drill whose end is not known is taken for one that the new system lost alone."""
    faults = {"hang": FaultTrials(n=40, against_old=Pairs(n=38, unknown=2))}
    found = criterion(judge(good(faults=faults), production), "recovered/than_old")
    assert (found.n, found.bad, found.critical) == (40, 2, False)


def test_conditions_of_one_family_are_told_as_one(production: Policy) -> None:
    """Kinds that lack drills are one reason, which names those that lack most first; each stays a condition."""
    faults = {"hang": FaultTrials(n=2), "slow_step": FaultTrials(n=9), "lost_hint": FaultTrials()}
    policy = replace(production, gates=replace(production.gates, faults=tuple(faults)))
    verdict = judge(good(faults=faults), policy)
    assert [gate.name for gate in verdict.gates if not gate.is_met] == ["fault/hang", "fault/lost_hint"]
    assert verdict.reasons[0] == "drills done of each kind, 5 needed: lost hint 0, hang 2"
    told = [(gate.title, gate.is_met) for gate in folded(verdict.gates) if gate.name.startswith("fault")]
    assert told == [("Drills of each kind", False), ("Drills of slow step", True)]
