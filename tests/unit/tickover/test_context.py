"""The context: what a step may read, draw, call and emit."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

from tickover import Absent, Port, Step, TickContext, UndeclaredNeed, Workflow
from tickover.context import freeze, thaw
from tickover.draws import DerivedDraws
from tickover.errors import ContractError, NotCanonical, ReadOnly, WorkflowError


def nothing(context: Any) -> None:
    return None


FLOW = Workflow(
    name="job",
    version="1",
    steps=[
        Step(name="a", run=nothing),
        Step(name="b", run=nothing, needs=("a",)),
        Step(name="c", run=nothing, needs=("a", "b")),
    ],
    ports=[Port(name="model", connect=lambda: None, methods=("chat",))],
    normalise=lambda value: sorted(value) if isinstance(value, set) else value,
)


def context(step: str = "b", **more: Any) -> TickContext:
    given: dict[str, Any] = {
        "workflow": FLOW,
        "step": FLOW.step(step),
        "run": "r",
        "tick": 4,
        "attempt": 1,
        "state": {"list": [1, {"x": 2}]},
        "results": {"a": {"said": ["hi"]}, "b": 2},
        "draws": DerivedDraws("r", 4, step),
        "call_port": lambda port, method, request: [port, method, request],
    }
    return TickContext(**{**given, **more})


def test_only_declared_needs_can_be_read() -> None:
    """Reading, asking for or getting another step's result raises UndeclaredNeed, though the result exists."""
    results = context("b").results
    assert results["a"]["said"] == ["hi"]
    assert list(results) == ["a"]
    assert "a" in results
    for read in (lambda: results["b"], lambda: results.get("b"), lambda: "b" in results, lambda: results["zzz"]):
        with pytest.raises(UndeclaredNeed, match="step 'b' read the result of"):
            read()


def test_an_absent_result_is_false_and_says_why() -> None:
    """A need that failed or did not apply is there, false, with its reason."""
    absent = context("b", results={"a": Absent("a", "it did not apply")}).results["a"]
    assert not absent
    assert absent.reason == "it did not apply"
    assert "did not apply" in repr(absent)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.state.update(x=1),
        lambda c: c.state.setdefault("y", 1),
        lambda c: c.state.pop("list"),
        lambda c: c.state["list"].append(3),
        lambda c: c.state["list"].sort(),
        lambda c: c.state["list"][1].clear(),
        lambda c: c.results["a"]["said"].extend([1]),
        lambda c: c.input["x"].insert(0, 1),
    ],
)
def test_state_input_and_results_are_read_only_all_the_way_down(change: Any) -> None:
    """No way of changing them works; the error says what to do instead."""
    made = context(input={"x": []})
    with pytest.raises(ReadOnly, match="emit an effect, or work on a copy"):
        change(made)
    assert thaw(made.state) == {"list": [1, {"x": 2}]}


def test_operators_that_assign_are_refused_too() -> None:
    """`d[k] =`, `del`, `|=`, `+=` and `*=` on frozen values raise."""
    state = context().state
    with pytest.raises(ReadOnly):
        state["x"] = 1
    with pytest.raises(ReadOnly):
        del state["list"]
    with pytest.raises(ReadOnly):
        state |= {"x": 1}
    numbers = state["list"]
    with pytest.raises(ReadOnly):
        numbers += [1]
    with pytest.raises(ReadOnly):
        numbers *= 2
    with pytest.raises(ReadOnly):
        numbers[0] = 9


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v)), lambda v: json.loads(json.dumps(v)), thaw],
)
def test_a_copy_is_plain_and_changeable(copied: Any) -> None:
    """Copies of frozen values, however made, are dicts and lists that can be changed."""
    frozen = freeze({"list": [1, {"x": 2}]})
    plain = copied(frozen)
    assert type(plain) is dict
    assert plain == frozen
    plain["new"] = 1
    assert "new" not in frozen
    if copied is not copy.copy:
        plain["list"][1]["x"] = 3
        assert frozen["list"][1]["x"] == 2


def test_the_context_does_not_share_with_its_maker() -> None:
    """Changing what was given afterwards changes nothing in the context."""
    state = {"a": [1]}
    made = context(state=state)
    state["a"].append(2)
    assert made.state == {"a": [1]}


def test_effects_have_places_numbers_and_keys() -> None:
    """Emissions are numbered in order; default keys count per kind and hold no attempt, system or payload."""
    made = context("c", attempt=3)
    made.emit("memories", {"t": (1, 2)})
    made.emit("letters", {"x", "y"}, key="mine")
    made.emit("memories", None)
    assert [(one.step, one.position, one.number, one.kind, one.key) for one in made.effects] == [
        ("c", 2, 0, "memories", "4/c/memories/0"),
        ("c", 2, 1, "letters", "mine"),
        ("c", 2, 2, "memories", "4/c/memories/1"),
    ]
    assert [one.payload for one in made.effects] == [{"t": [1, 2]}, ["x", "y"], None]


def test_an_effect_without_json_form_is_refused_and_not_emitted() -> None:
    """A payload that is not JSON raises at once, where it can be seen."""
    made = context()
    with pytest.raises(NotCanonical):
        made.emit("x", {"a": b"bytes"})
    assert made.effects == ()


def test_ports_are_called_by_their_methods_only() -> None:
    """A declared method gets its arguments as JSON; an unknown port or method is named."""
    made = context()
    assert made.port("model").chat(words=("a", "b")) == ["model", "chat", {"words": ["a", "b"]}]
    with pytest.raises(ContractError, match="port 'model' has no method 'shout'; it has chat"):
        made.port("model").shout()
    with pytest.raises(WorkflowError, match="no port 'mail'"):
        made.port("mail")


def test_draws_are_the_same_at_every_attempt() -> None:
    """Clock, numbers and identifiers do not depend on the attempt."""
    first, second = context(attempt=1), context(attempt=2)
    assert first.now == second.now
    assert first.now == first.now
    assert [first.random.random() for _ in range(3)] == [second.random.random() for _ in range(3)]
    assert [first.new_id(), first.new_id()] == [second.new_id(), second.new_id()]
    assert first.new_id() != first.new_id()
