"""The kind of a comparison, and the step to which it is attributed."""

from __future__ import annotations

from dataclasses import replace

from shadow.compare import Kind, StepVerdict, judge, needs_reference
from shadow.diff import Change
from shadow.misses import Miss
from shadow.observation import Observation, Outcome, StepObservation, StepStatus
from shadow.rules import Tolerance
from tests.unit.shadow.made import GRAPH, observe
from tickover.execution import Purpose, System

RESULTS = {"think": {"t": "x"}, "act": {"a": [1, 2]}, "learn": {"l": 1}, "rest": {"r": 1}}
EFFECTS = [("think", "notes", {"n": 1}), ("act", "notes", {"n": 2}), ("learn", "beliefs", {"b": 1})]
GAVE_UP = StepObservation(status=StepStatus.GAVE_UP)
FAILED = StepObservation(status=StepStatus.FAILED, error="ValueError: no")


def control(**changed: object) -> Observation:
    return observe(RESULTS, EFFECTS, state={"s": 1}, **changed)  # type: ignore[arg-type]


def candidate(results: dict[str, object] | None = None, **changed: object) -> Observation:
    fields: dict[str, object] = {"effects": EFFECTS, "state": {"s": 1}, **changed}
    return observe(
        {**RESULTS, **(results or {})},
        system=System.ASYNC,
        purpose=Purpose.CANDIDATE,
        **fields,  # type: ignore[arg-type]
    )


def test_equal_observations_match() -> None:
    """Equal results, effects and state are a match, with every step equal."""
    found = judge(control(), candidate(), GRAPH)
    assert found.kind is Kind.MATCH
    assert set(found.steps.values()) == {StepVerdict.EQUAL}


def test_the_first_step_that_parts_is_named_and_the_rest_are_consequences() -> None:
    """A difference in a step is attributed to it; those that depend on it are consequences, not findings."""
    found = judge(control(), candidate({"act": {"a": [1, 3]}, "learn": {"l": 2}}), GRAPH)
    assert found.kind is Kind.MISMATCH
    assert [attribution.step for attribution in found.attributions] == ["act"]
    assert found.attributions[0].atoms == (("result", "a[*]", "value"),)
    assert found.steps["learn"] is StepVerdict.CONSEQUENCE
    assert found.steps["rest"] is StepVerdict.EQUAL


def test_parallel_steps_that_part_independently_are_both_named() -> None:
    """Two steps of which neither depends on the other are two causes, first in the graph first."""
    found = judge(control(), candidate({"rest": {"r": 2}, "learn": {"l": 2}}), GRAPH)
    assert [attribution.step for attribution in found.attributions] == ["learn", "rest"]


def test_a_state_that_differs_alone_is_attributed_to_the_state() -> None:
    """Equal steps and another state afterwards is a defect of the reducer."""
    found = judge(control(), candidate(state={"s": 2}), GRAPH)
    assert [attribution.step for attribution in found.attributions] == ["state"]


def test_a_step_that_did_not_run_is_a_status() -> None:
    """An optional step that is missing differs by status, whatever its result would have been."""
    missing = {"learn": StepObservation(status=StepStatus.NOT_APPLICABLE, attempts=0)}
    found = judge(control(), candidate(steps=missing, effects=EFFECTS[:2]), GRAPH)
    assert found.attributions[0].atoms == (("status", "ran -> did not run", "value"),)


def test_a_legacy_step_that_did_nothing_did_not_apply() -> None:
    """Legacy enters a method that returns at once; the port says not applicable; the two are equal."""
    one = observe({**RESULTS, "learn": None}, EFFECTS[:2])
    other = candidate(
        steps={"learn": StepObservation(status=StepStatus.NOT_APPLICABLE, attempts=0)}, effects=EFFECTS[:2]
    )
    found = judge(one, replace(other, state_after=None), GRAPH)
    assert (found.kind, found.steps["learn"]) == (Kind.MATCH, StepVerdict.NOT_APPLICABLE)


def test_candidate_failed_names_the_step_that_failed() -> None:
    """A candidate that failed where the control did not is that kind, at its failing step, by class of error."""
    lost = StepObservation(status=StepStatus.NOT_REACHED, attempts=0)
    steps = {"act": FAILED, "learn": lost, "rest": lost}
    found = judge(control(), candidate(outcome=Outcome.FAILED, steps=steps, effects=EFFECTS[:1]), GRAPH)
    assert found.kind is Kind.CANDIDATE_FAILED
    assert found.attributions[0].step == "act"
    assert "ValueError" in found.attributions[0].atoms[0][1]


def test_a_failed_candidate_is_named_where_the_control_was_in_trouble_too() -> None:
    """The control gave up in the step in which the candidate failed, and went on: the step is that one."""
    lost = StepObservation(status=StepStatus.NOT_REACHED, attempts=0)
    steps = {"act": FAILED, "learn": lost, "rest": lost}
    found = judge(control(steps={"act": GAVE_UP}), candidate(outcome=Outcome.FAILED, steps=steps), GRAPH)
    assert (found.kind, [a.step for a in found.attributions]) == (Kind.CANDIDATE_FAILED, ["act"])


def test_a_failed_candidate_that_differed_before_is_named_there() -> None:
    """What differed on the way to the failure is its cause."""
    lost = StepObservation(status=StepStatus.NOT_REACHED, attempts=0)
    other = StepObservation(status=StepStatus.DONE, result="another thought")
    steps = {"think": other, "act": FAILED, "learn": lost, "rest": lost}
    found = judge(control(), candidate(outcome=Outcome.FAILED, steps=steps, effects=EFFECTS[:1]), GRAPH)
    assert (found.kind, [a.step for a in found.attributions]) == (Kind.CANDIDATE_FAILED, ["think"])


def test_both_failed() -> None:
    """Where both failed there is nothing to hold against the candidate."""
    found = judge(control(outcome=Outcome.FAILED), candidate(outcome=Outcome.FAILED), GRAPH)
    assert found.kind is Kind.BOTH_FAILED
    assert found.attributions == ()


def test_improved_needs_a_reference_that_agrees() -> None:
    """A control that gave up is improved upon only where a reference equals the candidate."""
    gave_up = control(steps={"act": GAVE_UP})
    assert needs_reference(gave_up, candidate(), GRAPH)
    reference = observe(RESULTS, EFFECTS, purpose=Purpose.REFERENCE, state={"s": 1})
    assert judge(gave_up, candidate(), GRAPH, reference=reference).kind is Kind.IMPROVED
    assert judge(gave_up, candidate(), GRAPH).kind is Kind.UNVERIFIED
    other = replace(reference, steps={**reference.steps, "learn": replace(reference.steps["learn"], result=5)})
    judged = judge(gave_up, candidate(), GRAPH, reference=other)
    assert (judged.kind, judged.against, judged.attributions[0].step) == (Kind.MISMATCH, "reference", "learn")


def test_a_reference_that_left_the_tape_proves_no_mismatch() -> None:
    """A difference from a reference that made calls of its own is unverified."""
    reference = observe({**RESULTS, "act": {"a": []}}, EFFECTS, purpose=Purpose.REFERENCE)
    found = judge(control(steps={"act": GAVE_UP}), candidate(), GRAPH, reference=reference, reference_missed=True)
    assert found.kind is Kind.UNVERIFIED


def test_both_giving_up_on_an_optional_step_is_a_match() -> None:
    """Where both did without the step and all else is equal, no reference is asked for."""
    one = observe(RESULTS, EFFECTS[:2], steps={"learn": GAVE_UP})
    other = observe(RESULTS, EFFECTS[:2], steps={"learn": FAILED}, system=System.ASYNC)
    assert not needs_reference(one, other, GRAPH)
    assert judge(one, other, GRAPH).kind is Kind.MATCH


def test_a_lost_control_is_unverified_without_reference() -> None:
    """A legacy that died says nothing about the candidate."""
    lost = observe({}, outcome=Outcome.LOST)
    assert judge(lost, candidate(), GRAPH).kind is Kind.UNVERIFIED


def test_an_unexplained_miss_is_a_mismatch_of_calls() -> None:
    """Another request to the model is a difference even where the answers agree, and names the place."""
    miss = Miss(step="act", port="model", method="chat", attempt=1, request={"m": "y"}, why=None, nearest={"m": "x"})
    found = judge(control(), candidate(), GRAPH, misses=[miss])
    assert found.attributions[0].atoms == (("calls", "model.chat.m", "value"),)
    explained = replace(miss, why="legacy gave up in act")
    assert judge(control(), candidate(), GRAPH, misses=[explained]).kind is Kind.MATCH


def test_effects_of_no_step_find_their_step() -> None:
    """What legacy wrote outside its steps is equal to the same effect that the port emits inside one."""
    one = observe(RESULTS, [*EFFECTS[:2], ("", "beliefs", {"b": 1})], state={"s": 1})
    assert judge(one, candidate(), GRAPH).kind is Kind.MATCH


def test_legacy_without_steps_allows_no_attribution() -> None:
    """As a whole, effects are compared as multisets, and a difference is attributed to no step."""
    whole = observe({}, EFFECTS, visible=(), state={"s": 1})
    assert judge(whole, candidate(), GRAPH).kind is Kind.MATCH
    found = judge(whole, candidate(effects=EFFECTS[:2]), GRAPH)
    assert [attribution.step for attribution in found.attributions] == ["(no attribution)"]


def test_diverged_draws_are_checked_by_form() -> None:
    """Where the two drew differently, another identifier passes and a null does not."""
    one = observe({**RESULTS, "act": {"id": "0d9b0f8e-62a5-4a6e-93c1-0e6a1d3f5b77"}}, EFFECTS)
    other = candidate({"act": {"id": "11111111-2222-4333-8444-555555555555"}}, diverged={"act": ("ids",)})
    assert judge(one, other, GRAPH).kind is Kind.MATCH
    null = candidate({"act": {"id": None}}, diverged={"act": ("ids",)})
    found = judge(one, null, GRAPH)
    assert found.attributions[0].atoms == (("result", "id", "form"),)


def test_a_rule_tolerates_and_is_named() -> None:
    """What a rule answers for is tolerated; the comparison says which rule."""

    def rules(step: str, area: str, change: Change) -> Tolerance | None:
        return Tolerance(rule="r1", reason="known", owner="me") if step == "act" else None

    found = judge(control(), candidate({"act": {"a": [1]}}), GRAPH, rules=rules)
    assert (found.kind, [t.rule for t in found.tolerances]) == (Kind.TOLERATED, ["r1"])


def test_observations_survive_storage() -> None:
    """An observation read back from its document compares as the original does."""
    seen = control(steps={"act": GAVE_UP})
    assert Observation.from_json(seen.to_json(), seen.state_after) == seen
