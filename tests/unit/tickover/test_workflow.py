"""Workflows: validation, graph order, the reducer's order, retry policies."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickover import Effect, RetryPolicy, Step, Workflow
from tickover.errors import ContractError, CyclicNeeds, DuplicateStep, UnknownNeed, WorkflowError


def nothing(context: Any) -> None:
    return None


def step(name: str, *needs: str, **more: Any) -> Step:
    return Step(name=name, run=nothing, needs=needs, **more)


def flow(*steps: Step, **more: Any) -> Workflow:
    return Workflow(name="job", version="1", steps=steps, **more)


@st.composite
def graphs(draw: st.DrawFn) -> Workflow:
    """A workflow with an acyclic graph whose steps are given in any order."""
    count = draw(st.integers(1, 8))
    names = [f"s{number}" for number in range(count)]
    steps = [
        step(name, *draw(st.lists(st.sampled_from(names[:place]), unique=True) if place else st.just([])))
        for place, name in enumerate(names)
    ]
    return flow(*draw(st.permutations(steps)))


@given(graphs())
def test_a_step_stands_after_its_needs(workflow: Workflow) -> None:
    """The graph order has each step once, after all that it needs."""
    assert sorted(workflow.order) == sorted(one.name for one in workflow.steps)
    for one in workflow.steps:
        assert all(workflow.positions[need] < workflow.positions[one.name] for need in one.needs)


@given(graphs())
def test_steps_keep_the_order_given_where_the_graph_allows(workflow: Workflow) -> None:
    """At each place stands the first given step that was ready: the order is fixed by the workflow alone."""
    given_order = [one.name for one in workflow.steps]
    done: set[str] = set()
    for name in workflow.order:
        ready = [n for n in given_order if n not in done and set(workflow.by_name[n].needs) <= done]
        assert ready[0] == name
        done.add(name)


@given(st.data())
def test_effects_apply_in_one_order_whatever_order_they_came_in(data: st.DataObject) -> None:
    """The reducer sees effects by position of the step, then number of the emission, however steps ended."""
    effects = [
        Effect(step=f"s{position}", position=position, number=number, kind="k", payload=[position, number], key="x")
        for position in range(3)
        for number in range(data.draw(st.integers(0, 3)))
    ]
    workflow = flow(step("a"), reduce=lambda state, effect: [*state, effect.payload])
    shuffled = data.draw(st.permutations(effects))
    assert workflow.apply([], shuffled) == [effect.payload for effect in effects]


def test_the_mistakes_of_a_graph_are_named() -> None:
    """Unknown need, circle, duplicate and misnamed legacy steps are told apart, with the culprits."""
    with pytest.raises(UnknownNeed, match=r"step 'b' needs 'x'.*its steps are a, b"):
        flow(step("a"), step("b", "a", "x"))
    with pytest.raises(CyclicNeeds, match="in a circle") as circle:
        flow(step("a", "c"), step("b", "a"), step("c", "b"))
    assert all(f"{name} -> " in str(circle.value) + " -> " for name in "abc")
    with pytest.raises(CyclicNeeds):
        flow(step("a", "a"))
    with pytest.raises(DuplicateStep, match="two steps named 'a'"):
        flow(step("a"), step("a"))
    with pytest.raises(WorkflowError, match="legacy_steps names 'x'"):
        flow(step("a"), legacy_steps={"x": "m:f"})
    with pytest.raises(WorkflowError, match="has no steps"):
        flow()


@pytest.mark.parametrize("name", ["", "A", "1a", "a-b", "a b", "a\n", "é", "x" * 64])
def test_names_that_would_not_do_are_refused(name: str) -> None:
    """Names become task names, columns and file names: lower-case letters, digits and underscores."""
    with pytest.raises(WorkflowError, match="is no step name"):
        step(name)
    with pytest.raises(WorkflowError, match="is no workflow name"):
        Workflow(name=name, version="1", steps=[step("a")])


def test_a_step_checks_itself() -> None:
    """Needs as one string, and limits of nothing, are refused."""
    with pytest.raises(WorkflowError, match="not one string"):
        Step(name="a", run=nothing, needs="bc")  # type: ignore[arg-type]
    for limit in (0, -1, float("nan")):
        with pytest.raises(WorkflowError, match="above 0 s"):
            step("a", timeout_s=limit)


def test_what_is_not_there_is_named_with_what_is() -> None:
    """Asking for an unknown step or port says which there are."""
    workflow = flow(step("a"), step("b"))
    with pytest.raises(WorkflowError, match="no step 'x'; its steps are a, b"):
        workflow.step("x")
    with pytest.raises(WorkflowError, match="no port 'x'; its ports are none"):
        workflow.port("x")
    assert workflow.step("b").name == "b"


def test_the_initial_state_is_a_value_or_a_function() -> None:
    """Both forms give the state of tick 0."""
    assert flow(step("a"), initial_state={"x": 1}).start_state() == {"x": 1}
    assert flow(step("a"), initial_state=lambda: {"x": 2}).start_state() == {"x": 2}


def test_workflows_and_steps_cannot_be_changed() -> None:
    """Both are frozen, and given lists become tuples."""
    workflow = flow(step("a"))
    with pytest.raises(AttributeError):
        workflow.name = "other"  # type: ignore[misc]
    assert isinstance(copy.copy(workflow).steps, tuple)


@given(
    st.integers(1, 200),
    st.floats(0, 1, exclude_max=True),
    st.builds(
        RetryPolicy,
        attempts=st.integers(1, 5),
        backoff_s=st.floats(0, 100),
        factor=st.floats(1, 10),
        max_backoff_s=st.floats(0, 1000),
        jitter=st.floats(0, 1),
    ),
)
def test_waits_grow_within_their_bounds(attempt: int, draw: float, policy: RetryPolicy) -> None:
    """A wait lies between what jitter leaves and the maximum, never falls for the same draw, and never overflows."""
    wait_s = policy.wait_s(attempt, draw)
    assert 0 <= wait_s <= policy.max_backoff_s
    assert wait_s <= policy.wait_s(attempt + 1, draw) + 1e-9
    assert wait_s >= policy.wait_s(attempt, 0) * (1 - policy.jitter) - 1e-9


def test_what_is_worth_another_attempt() -> None:
    """Errors in retry_on, up to the number of attempts; a broken contract never."""
    policy = RetryPolicy(attempts=3, retry_on=(ValueError, ContractError))
    assert policy.retries(ValueError(), 1)
    assert policy.retries(ValueError(), 2)
    assert not policy.retries(ValueError(), 3)
    assert not policy.retries(KeyError(), 1)
    assert not policy.retries(ContractError(), 1)
    with pytest.raises(WorkflowError, match="at least one attempt"):
        RetryPolicy(attempts=0)
    for wrong in ({"backoff_s": -1}, {"factor": 0.5}, {"max_backoff_s": -1}, {"jitter": 1.5}):
        with pytest.raises(WorkflowError):
            RetryPolicy(**wrong)  # type: ignore[arg-type]
