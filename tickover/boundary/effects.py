"""Writes become effects: by the workflow's `legacy_effects`, or by the rules below.

A row inserted into table T is an effect of kind "T" with the row, without its INTEGER PRIMARY KEY, as payload; an
update is "T.update" with {"before", "after"}; a delete is "T.delete" with the row as it was. A file is
"file:<relative path>" with its text, "file:<path>.append" with what was added, "file:<path>.remove". An HTTP call
that no port claims and that is no GET, HEAD or OPTIONS is "http:<op>" with its URL and row. A statement of psycopg2
has the kind of its table, as a row would, and the statement as payload.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from tickover.boundary.observation import ObservedEffect
from tickover.boundary.session import Note, guarded
from tickover.canonical import normalise
from tickover.effects import Effect, default_key
from tickover.errors import NotCanonical
from tickover.workflow import Workflow, Write


class Numbering:
    """How many effects each step has had, so that late ones are numbered on; mutable, one per tick."""

    def __init__(self) -> None:
        self.emitted: Counter[str] = Counter()
        self.keys: Counter[tuple[str, str]] = Counter()


def observed_effects(workflow: Workflow, tick: int, notes: Iterable[Note], so_far: Numbering) -> list[ObservedEffect]:
    """The effects of these writes, in the one order. Raises nothing: what fails is reported as a harness error."""
    seen: list[ObservedEffect] = []
    for note in sorted(notes, key=lambda note: note.number):
        with guarded(f"effects: {note.write.door} {note.write.target}"):
            mapped = _mapped(workflow, note)
            if mapped is None:
                continue
            kind, payload, *rest = mapped
            step = note.book.step
            key = rest[0] if rest else default_key(tick, step, kind, so_far.keys[step, kind])
            try:
                payload = normalise(payload, workflow.normalise)
            except NotCanonical as error:
                payload = {"$not_canonical": str(error)}
            effect = Effect(
                step=step,
                position=workflow.positions.get(step, len(workflow.order)),
                number=so_far.emitted[step],
                kind=kind,
                payload=payload,
                key=key,
            )
            so_far.keys[step, kind] += 1
            so_far.emitted[step] += 1
            seen.append(
                ObservedEffect(
                    effect=effect,
                    late=note.late,
                    at_ms=round(note.at_s * 1000, 3),
                    door=note.write.door,
                    target=note.write.target,
                )
            )
    return sorted(seen, key=lambda one: one.effect.order)


def _mapped(workflow: Workflow, note: Note) -> tuple[Any, ...] | None:
    if workflow.legacy_effects is not None:
        return workflow.legacy_effects(note.write)
    return default_effect(note.write, note.rowid)


def default_effect(write: Write, rowid: str | None) -> tuple[str, Any]:
    """Kind and payload of a write where the workflow has no rule of its own."""
    if write.door == "file":
        kind = f"file:{write.target}"
        return (kind if write.op == "write" else f"{kind}.{write.op}", write.row)
    if write.door == "http":
        return (f"http:{write.op}", {"url": write.target, **write.row})
    if write.door == "psycopg2":
        return (write.target if write.op == "insert" else f"{write.target}.{write.op}", write.row)
    after, before = _without(write.row, rowid), _without(write.before, rowid)
    if write.op == "insert":
        return (write.target, after)
    if write.op == "update":
        return (f"{write.target}.update", {"before": before, "after": after})
    return (f"{write.target}.{write.op}", before)


def _without(row: Any, column: str | None) -> Any:
    if not isinstance(row, dict) or column is None:
        return row
    return {name: value for name, value in row.items() if name != column}
