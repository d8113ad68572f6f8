"""Writes become effects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tickover import Step, Workflow, Write
from tickover.boundary.effects import Numbering, default_effect, observed_effects
from tickover.boundary.observation import LegacyRequest
from tickover.boundary.session import Recorder, session


def write(door: str, target: str, op: str, row: Any, before: Any = None) -> Write:
    return Write(door=door, target=target, op=op, row=row, before=before)


@pytest.mark.parametrize(
    ("seen", "kind", "payload"),
    [
        (write("sqlite", "t", "insert", {"id": 1, "x": 2}), "t", {"x": 2}),
        (
            write("sqlite", "t", "update", {"id": 1, "x": 3}, {"id": 1, "x": 2}),
            "t.update",
            {"before": {"x": 2}, "after": {"x": 3}},
        ),
        (write("sqlite", "t", "delete", None, {"id": 1, "x": 3}), "t.delete", {"x": 3}),
        (write("file", "notes/a.txt", "write", {"text": "x"}), "file:notes/a.txt", {"text": "x"}),
        (write("file", "log", "append", {"text": "x"}), "file:log.append", {"text": "x"}),
        (write("file", "log", "remove", None), "file:log.remove", None),
        (
            write("http", "http://h/", "insert", {"method": "POST", "body": None}),
            "http:insert",
            {"url": "http://h/", "method": "POST", "body": None},
        ),
        (write("psycopg2", "t", "delete", {"rows": 1}), "t.delete", {"rows": 1}),
    ],
)
def test_the_published_rules(seen: Write, kind: str, payload: Any) -> None:
    """Kind and payload of each sort of write, where the workflow has no rule of its own."""
    assert default_effect(seen, "id") == (kind, payload)


def flow(**more: Any) -> Workflow:
    steps = [Step(name="a", run=lambda context: None), Step(name="b", run=lambda context: None)]
    return Workflow(name="job", version="1", steps=steps, **more)


def recorder() -> Recorder:
    return Recorder(LegacyRequest(run="r", tick=7), Path("/tmp"))


def test_effects_are_numbered_per_step_in_graph_order() -> None:
    """Steps in graph order, writes in their own; late ones go on from the last number; outside steps come last."""
    made = recorder()
    for step, kind in [("b", "x"), ("", "z"), ("a", "x"), ("b", "x"), ("b", "y")]:
        made.write(made.book(step), write("sqlite", kind, "insert", {"n": 1}))
    numbering = Numbering()
    seen = observed_effects(flow(), 7, made.notes, numbering)
    assert [(one.effect.step, one.effect.position, one.effect.number, one.effect.key) for one in seen] == [
        ("a", 0, 0, "7/a/x/0"),
        ("b", 1, 0, "7/b/x/0"),
        ("b", 1, 1, "7/b/x/1"),
        ("b", 1, 2, "7/b/y/0"),
        ("", 2, 0, "7//z/0"),
    ]
    made.ended_s = 1.0
    made.write(made.book("b"), write("sqlite", "x", "insert", {"n": 2}))
    (late,) = observed_effects(flow(), 7, made.notes[5:], numbering)
    assert (late.late, late.effect.number, late.effect.key) == (True, 3, "7/b/x/2")


def test_a_workflows_own_rule_decides() -> None:
    """None is no effect; a third value is the key; a payload without JSON form is named in its place."""
    rules = {"drop": None, "keep": ("kind", [1], "key"), "odd": ("odd", {1, 2})}
    made = recorder()
    for target in rules:
        made.write(made.book("a"), write("file", target, "write", {"text": ""}))
    seen = observed_effects(flow(legacy_effects=lambda w: rules[w.target]), 7, made.notes, Numbering())
    assert [(one.effect.kind, one.effect.key) for one in seen] == [("kind", "key"), ("odd", "7/a/odd/0")]
    assert seen[0].effect.payload == [1]
    assert "set has no JSON form" in seen[1].effect.payload["$not_canonical"]


def test_a_rule_that_fails_is_reported_and_nothing_else_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in the workflow's rule is a harness error that names the write; the other writes are effects."""

    def rule(seen: Write) -> Any:
        if seen.target == "bad":
            raise KeyError("oops")
        return ("kind", 1)

    made = recorder()
    monkeypatch.setattr(session, "recorder", made)
    for target in ("bad", "good"):
        made.write(made.book("a"), write("file", target, "write", {"text": ""}))
    seen = observed_effects(flow(legacy_effects=rule), 7, made.notes, Numbering())
    assert [one.target for one in seen] == ["good"]
    assert list(made.errors) == ["effects: file bad: KeyError: 'oops'"]
