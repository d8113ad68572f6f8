"""Differences between two values: canonical bytes decide, DeepDiff explains, within a time budget."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tickover.canonical import Json, canonical_text, equal_plain

# One explanation may take this long; a tick has few, and the runner must keep up with the control.
EXPLAIN_BUDGET_S = 0.25
# Above this many characters on either side, DeepDiff's alignment of lists could overrun any budget between two looks
# at the clock.
EXPLAIN_MAX_CHARS = 2_000_000
# More differences than this say nothing that these do not.
MAX_DIFFERENCES = 200

PathPart = str | int
Path = tuple[PathPart, ...]


class Nature(StrEnum):
    """How two sides differ at a place."""

    VALUE = "value"
    TYPE = "type"
    MISSING = "missing"  # the control has it, the candidate does not
    ADDED = "added"  # the candidate has it, the control does not
    ORDER = "order"  # the same things in another order
    DUPLICATED = "duplicated"  # the candidate has it more often
    LATE = "late"  # the same effect, after its system had given up waiting
    UNEXPLAINED = "unexplained"  # unequal for certain; where was not found within the budget
    FORM = "form"  # drawn differently, and not even of the same form


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One place at which two values differ; immutable. A side that has nothing there holds None."""

    path: Path
    nature: Nature
    control: Json = None
    candidate: Json = None


_NATURES = {
    "values_changed": Nature.VALUE,
    "type_changes": Nature.TYPE,
    "dictionary_item_added": Nature.ADDED,
    "dictionary_item_removed": Nature.MISSING,
    "iterable_item_added": Nature.ADDED,
    "iterable_item_removed": Nature.MISSING,
}


def changes(
    control: Json, candidate: Json, *, budget_s: float = EXPLAIN_BUDGET_S, max_chars: int = EXPLAIN_MAX_CHARS
) -> tuple[Change, ...]:
    """Where two plain JSON values differ, in the order of their paths; empty if and only if they are equal.

    budget_s: seconds that the explanation may take; over it there is one change, "unexplained", at the root: unequal
    values are never called equal because time ran out.
    """
    if equal_plain(control, candidate):
        return ()
    unexplained = (Change(path=(), nature=Nature.UNEXPLAINED, control=control, candidate=candidate),)
    if max(len(canonical_text(control)), len(canonical_text(candidate))) > max_chars:
        return unexplained
    # Imported only when something differs: DeepDiff takes as long to import as a report over a day does to count.
    from shadow.explaining import OutOfTime, explanation

    try:
        tree = explanation(control, candidate, budget_s, max_diffs=50 * MAX_DIFFERENCES)
        found = sorted(_read(tree), key=lambda change: [(isinstance(p, str), str(p).zfill(9)) for p in change.path])
    except (OutOfTime, RecursionError):
        return unexplained
    # DeepDiff holds -0.0 and 0.0 for equal, which their bytes are not.
    return tuple(found[:MAX_DIFFERENCES]) or unexplained


def _read(tree: Any) -> Iterator[Change]:
    for report, levels in tree.items():
        nature = _NATURES.get(report)
        if nature is None:
            continue
        for level in levels:
            yield Change(
                path=tuple(level.path(output_format="list")),
                nature=nature,
                control=None if nature is Nature.ADDED else level.t1,
                candidate=None if nature is Nature.MISSING else level.t2,
            )


def generalise(path: Path) -> str:
    """The path as text with every index replaced by `*`: where equal causes leave equal traces."""
    return _text(path, general=True)


def show(path: Path) -> str:
    """The path as text: `goal.tags[2]`."""
    return _text(path, general=False)


def _text(path: Path, *, general: bool) -> str:
    text = ""
    for part in path:
        if isinstance(part, int):
            text += "[*]" if general else f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text or "(whole)"
