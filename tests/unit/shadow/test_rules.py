"""Rules: what they hide, for how long, and how a wrong file is refused."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from shadow.compare import Kind, judge
from shadow.diff import Change, Nature
from shadow.noise_floor import NoiseRow, NoisyPlaces, is_noise_tick, noise_rows
from shadow.plan import Mode, RunPlan
from shadow.rules import BadRules, RuleBook, parse_rules
from tests.unit.shadow.made import GRAPH, observe
from tickover.execution import Purpose, System

TODAY = dt.date(2026, 6, 1)
RESULTS = {"think": {"energy": 0.5, "at": "2026-01-01T10:00:00+00:00", "tags": [1, 2]}, "act": 1, "learn": 2}


def book(today: dt.date = TODAY, **keys: Any) -> RuleBook:
    """One rule on the energy of `think`, changed by `keys` (None takes a key away)."""
    rule = {
        "name": "'rounding'", "action": "'tolerate'", "step": "'think'", "path": "'energy'", "absolute": "0.01",
        "reason": "'the port rounds'", "owner": "'ada'", "expires": "2026-12-31", **keys,
    }  # fmt: skip
    text = "[[rule]]\n" + "\n".join(f"{key} = {value}" for key, value in rule.items() if value is not None)
    found = parse_rules(text, source="rules.toml")
    return RuleBook(rules=found.rules, today=today)


def value(path: tuple[Any, ...], control: Any, candidate: Any, nature: Nature = Nature.VALUE) -> Change:
    return Change(path=path, nature=nature, control=control, candidate=candidate)


def test_a_number_within_the_allowance_is_tolerated_and_one_beyond_is_not() -> None:
    """Absolute and relative allowances; the rule's name, reason and owner go with it."""
    near, far = value(("energy",), 0.5, 0.509), value(("energy",), 0.5, 0.52)
    found = book()("think", "result", near)
    assert found is not None and (found.rule, found.owner) == ("rounding", "ada")
    assert book()("think", "result", far) is None
    assert book(absolute=None, relative="0.05")("think", "result", far) is not None


def test_instants_within_seconds_are_tolerated() -> None:
    """Two instants in seconds' reach; what is no instant is not."""
    rules = book(path="'at'", absolute=None, seconds="2")
    assert rules("think", "result", value(("at",), "2026-01-01T10:00:00", "2026-01-01T10:00:01.5"))
    assert not rules("think", "result", value(("at",), "2026-01-01T10:00:00", "2026-01-01T10:00:03"))
    assert not rules("think", "result", value(("at",), "2026-01-01T10:00:00", "soon"))


@pytest.mark.parametrize(
    ("step", "area", "path", "nature"),
    [("act", "result", ("energy",), Nature.VALUE), ("think", "result", ("mood",), Nature.VALUE),
     ("think", "result", ("energy",), Nature.MISSING), ("think", "effects", ("energy",), Nature.VALUE)],
    ids=["another step", "another path", "missing", "another area"],
)  # fmt: skip
def test_what_the_rule_does_not_speak_of_is_kept(step: str, area: str, path: tuple[Any, ...], nature: Nature) -> None:
    """A rule hides nothing but what it names."""
    assert book(area="'result'")(step, area, value(path, 0.5, 0.501, nature)) is None


def test_an_ignore_rule_hides_any_difference_at_its_path() -> None:
    """Patterns: an index as [*], `*` within a name, `**` for everything below."""
    for pattern, path in [("tags[*]", ("tags", 1)), ("**", ("a", "b", 3)), ("goal.*", ("goal", "why"))]:
        rules = book(action="'ignore'", path=f"'{pattern}'", absolute=None)
        assert rules("think", "result", value(path, 1, "other", Nature.TYPE))
    assert not book(action="'ignore'", path="'goal.*'", absolute=None)(
        "think", "result", value(("goal", "a", "b"), 1, 2)
    )


def test_an_expired_rule_hides_nothing() -> None:
    """It holds to the end of its last day, and is named as expired afterwards."""
    change = value(("energy",), 0.5, 0.501)
    assert book(today=dt.date(2026, 12, 31))("think", "result", change)
    late = dt.date(2027, 1, 1)
    assert not book(today=late)("think", "result", change)
    assert book().expired(late) == ("rounding",) and book().expired(TODAY) == ()


def test_a_tick_whose_differences_are_all_hidden_is_tolerated() -> None:
    """Kind and rule are told; one difference that no rule hides makes a mismatch."""
    candidate = observe({**RESULTS, "think": {**RESULTS["think"], "energy": 0.505}}, system=System.ASYNC)
    compared = judge(observe(RESULTS), candidate, GRAPH, rules=book())
    assert compared.kind is Kind.TOLERATED
    assert [found.rule for found in compared.tolerances] == ["rounding"]
    other = observe({**RESULTS, "think": {**RESULTS["think"], "energy": 0.6}}, system=System.ASYNC)
    assert judge(observe(RESULTS), other, GRAPH, rules=book()).kind is Kind.MISMATCH


def test_what_is_redacted_stays_comparable() -> None:
    """A hash in place of the value: equal ones are equal, others are not, and the text is gone."""
    rules = book(action="'redact'", path="'at'", absolute=None)
    one, two = rules.redact(observe(RESULTS)), rules.redact(observe(RESULTS, system=System.ASYNC))
    assert judge(one, two, GRAPH).kind is Kind.MATCH
    other = observe({**RESULTS, "think": {**RESULTS["think"], "at": "2027-01-01"}}, system=System.ASYNC)
    assert judge(one, rules.redact(other), GRAPH).kind is Kind.MISMATCH
    assert "2026-01-01" not in str(one.steps["think"].result) and "sha256:" in str(one.steps["think"].result)


def test_rules_survive_json() -> None:
    """A resumed run keeps its own rules."""
    rules = book(area="'result'")
    assert RuleBook.from_json(rules.to_json()).rules == rules.rules
    assert RuleBook.from_json(rules.to_json()).digest == rules.digest != RuleBook().digest


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"owner": None}, "`owner`"), ({"reason": "''"}, "`reason`"), ({"expires": None}, "`expires`"),
        ({"expires": "'soon'"}, "`expires`"), ({"action": "'hide'"}, "`action`"), ({"absolute": "-1"}, "`absolute`"),
        ({"absolute": None}, "`action`"), ({"stepp": "'x'"}, "`stepp`"), ({"area": "'mind'"}, "`area`"),
        ({"action": "'ignore'"}, "`action`"),
    ],
)  # fmt: skip
def test_a_wrong_rule_is_refused_by_key(keys: dict[str, Any], said: str) -> None:
    """The error names the file, the rule and the key."""
    with pytest.raises(BadRules) as caught:
        book(**keys)
    assert "rules.toml" in str(caught.value) and said in str(caught.value) and "rounding" in str(caught.value)


def test_a_noisy_place_is_still_held_to_its_form() -> None:
    """Where the old system differs from itself another value passes, and a null or another type does not."""
    control = observe(RESULTS)
    again = observe({**RESULTS, "think": {**RESULTS["think"], "energy": 0.7}})
    candidate = observe({**RESULTS, "think": {**RESULTS["think"], "energy": 0.9}}, system=System.ASYNC)
    rows = noise_rows(control, again, candidate, GRAPH)
    assert {row.step: (row.old_differs, row.new_differs) for row in rows} == {
        "think": (True, True), "act": (False, False), "learn": (False, False),
    }  # fmt: skip
    noisy = NoisyPlaces(rows)
    assert noisy("think", "result", value(("energy",), 0.5, 0.9))
    assert not noisy("think", "result", value(("energy",), 0.5, None, Nature.TYPE))
    assert not noisy("think", "result", value(("at",), "a", "b"))
    assert not NoisyPlaces([NoiseRow(step="think", old_differs=False, new_differs=True, places=())])(
        "think", "result", value(("energy",), 0.5, 0.9)
    )


def test_noise_ticks_are_drawn_by_seed_and_tick() -> None:
    """A share of the ticks, the same ones whenever asked; none without a share."""
    plan = RunPlan(
        run="r", workload="w", ticks=1000, every_s=0, time_scale=1, seed=3, mode=Mode.RECORD, candidate=System.ASYNC,
        noise=0.05,
    )  # fmt: skip
    drawn = [tick for tick in range(1000) if is_noise_tick(plan, tick)]
    assert 25 < len(drawn) < 80 and drawn == [tick for tick in range(1000) if is_noise_tick(plan, tick)]
    assert Purpose.NOISE.value == "noise"
