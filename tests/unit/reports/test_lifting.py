"""Tests of reports.lifting: what would be counted without rules, or without those that have expired."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Collection

from hypothesis import given, settings
from hypothesis import strategies as st

from reports.aggregates import Group
from reports.counting import step_tallies, whole_tally
from reports.lifting import damage, hidden_by_rule, lift
from shadow.compare import Comparison, Kind, StepVerdict, judge
from shadow.rules import Action, Rule, RuleBook
from tests.unit.shadow.made import GRAPH, observe
from tickover.canonical import canonical_text
from tickover.execution import System

LETTERS = {
    StepVerdict.EQUAL: "E", StepVerdict.DIFFERS: "D", StepVerdict.CONSEQUENCE: "C",
    StepVerdict.NOT_APPLICABLE: "N", StepVerdict.NOT_COMPARED: "-",
}  # fmt: skip
TODAY = dt.date(2026, 6, 1)
RESULTS = {step: {"a": 1, "b": 1} for step in GRAPH.order}


def group(compared: Comparison, count: int = 1) -> Group:
    """The group that the database makes of a comparison."""
    hidden = compared.to_json()["hidden"]
    return Group(
        kind=compared.kind.value, stratum=None, control_outcome="done", candidate_outcome="done",
        control_gave_up=False, candidate_gave_up=False, count=count,
        steps="".join(LETTERS[compared.steps[step]] for step in sorted(GRAPH.order)),
        hidden=None if hidden is None else canonical_text(hidden),
    )  # fmt: skip


def compared(changed: Collection[tuple[str, str]], rules: RuleBook, lost: Collection[str] = ()) -> Comparison:
    """The comparison of a tick on which these (step, key) differ and steps `lost` lose an effect."""
    results = {step: {key: 2 if (step, key) in changed else 1 for key in "ab"} for step in GRAPH.order}
    effects = [(step, "note", 1) for step in GRAPH.order]
    kept = [effect for effect in effects if effect[0] not in lost]
    return judge(observe(RESULTS, effects), observe(results, kept, system=System.ASYNC), GRAPH, rules=rules)


def ignore(name: str, step: str, path: str, last_day: dt.date = dt.date(2027, 1, 1)) -> Rule:
    return Rule(
        name=name, action=Action.IGNORE, step=step, path=path, reason="known", owner="ada", expires=last_day
    )  # fmt: skip


places = st.tuples(st.sampled_from(GRAPH.order), st.sampled_from("ab"))


@settings(max_examples=200, deadline=None)
@given(st.sets(places, max_size=5), st.sets(places, max_size=4), st.sets(places, max_size=4))
def test_lifting_rules_is_judging_without_them(
    changed: set[tuple[str, str]], lasting: set[tuple[str, str]], ending: set[tuple[str, str]]
) -> None:
    """Whatever differs and whatever rules hide: without all rules, or without those that have expired, kind and steps
    are those of a comparison that never knew them."""
    lasting -= ending
    for_good = [ignore(f"lasting {step} {key}", step, key) for step, key in sorted(lasting)]
    for_now = [ignore(f"ending {step} {key}", step, key) for step, key in sorted(ending)]
    seen = group(compared(changed, RuleBook(rules=(*for_good, *for_now), today=TODAY)))
    bare = group(compared(changed, RuleBook()))
    later = group(compared(changed, RuleBook(rules=tuple(for_good), today=TODAY)))
    expired = [rule.name for rule in for_now]
    for found, expected in ((lift([seen], GRAPH)[0], bare), (lift([seen], GRAPH, expired)[0], later)):
        shown_kind = Kind.MATCH if expected.kind == Kind.TOLERATED and found.kind == Kind.MATCH else expected.kind
        assert (found.kind, found.steps) == (shown_kind, expected.steps)


def test_what_follows_from_a_hidden_difference_is_no_evidence_without_the_rule() -> None:
    """With the rule `act` differs by itself; without it `think` does, and `act` follows from that."""
    book = RuleBook(rules=(ignore("known", "think", "a"),), today=TODAY)
    groups = [group(compared({("think", "a"), ("act", "a")}, book), 3), group(compared((), book), 7)]
    bare = lift(groups, GRAPH)
    with_rules, without = (step_tallies(each, GRAPH.order, 0, bare) for each in (groups, bare))
    assert (with_rules["think"].bad, with_rules["think"].hidden, with_rules["act"].bad) == (0, 3, 3)
    assert (without["think"].bad, without["act"].bad, without["act"].n) == (3, 0, 7)
    assert (whole_tally(groups, 0, bare).hidden, whole_tally(bare).bad) == (0, 3)
    assert hidden_by_rule(groups) == {"known": {"think": 3}}


def test_a_lost_effect_that_a_rule_hides_is_not_forgotten() -> None:
    """It would bar READY, so without the rule, or once it has expired, it does; a difference in the result beside it
    makes it a mismatch like others."""
    book = RuleBook(rules=(ignore("known", "think", "**"),), today=TODAY)
    lost = [group(compared((), book, lost=["think"]), 2)]
    assert list(damage(lost)) == list(damage(lost, ["known"])) == [("think", "loses", 2)]
    assert list(damage(lost, ["other"])) == []
    assert list(damage([group(compared({("think", "a")}, book, lost=["think"]))])) == []


def test_a_tick_of_an_older_version_counts_as_a_whole() -> None:
    """Where nobody wrote down what a rule hid, the tick differs without rules, and no step is blamed."""
    old = Group(
        kind="tolerated", stratum=None, control_outcome="done", candidate_outcome="done", control_gave_up=False,
        candidate_gave_up=False, steps="EEEE", count=2,
        hidden=json.dumps({"kind": "mismatch", "steps": {"(no attribution)": {"rules": ["known"]}}}),
    )  # fmt: skip
    for rules in (None, ["known"]):
        assert [(g.kind, g.steps) for g in lift([old], GRAPH, rules)] == [("mismatch", "EEEE")]
    assert lift([old], GRAPH, ["other"]) == [old]
