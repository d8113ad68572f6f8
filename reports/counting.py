"""From groups of like ticks to the tallies that criteria are asked of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from reports.aggregates import Group
from reports.tally import Pairs, Tally
from shadow.compare import Kind

# Kinds under which results, effects and state of both systems can be told.
_TOLD = frozenset({Kind.MATCH, Kind.TOLERATED, Kind.IMPROVED, Kind.MISMATCH, Kind.UNVERIFIED})


def whole_tally(groups: Sequence[Group], missing: int = 0, bare: Sequence[Group] | None = None) -> Tally:
    """Mismatches of whole ticks. A tick on which the candidate failed has no answer to compare: it is a failure.

    missing: ticks that were started and have no comparison. bare: the same groups without rules, in the same order;
    None: nothing is told of what rules hid.
    """
    told, of, hidden = 0, dict.fromkeys(Kind, 0), 0
    for group, shown in zip(groups, bare or groups, strict=True):
        of[Kind(group.kind)] += group.count
        told += group.count if group.kind in _TOLD else 0
        hidden += group.count if shown.kind == Kind.MISMATCH != group.kind else 0
    return Tally(
        n=told, bad=of[Kind.MISMATCH], hidden=hidden, unverified=of[Kind.UNVERIFIED],
        unknown=of[Kind.NOT_COMPARED] + missing,
    )  # fmt: skip


def step_tallies(
    groups: Sequence[Group], order: Sequence[str], missing: int = 0, bare: Sequence[Group] | None = None
) -> dict[str, Tally]:
    """Mismatches by step, steps in graph order. Only ticks count on which both systems reached the step and all that
    it depends on agreed; where the control gave up and nothing could confirm it, the step is unverified.

    missing, bare: as for `whole_tally`.
    """
    # Letters stand in the order of the names' bytes.
    place = {step: index for index, step in enumerate(sorted(order, key=lambda name: name.encode()))}
    n, bad, unverified, hidden, not_applied = (dict.fromkeys(order, 0) for _ in range(5))
    unknown = missing
    for group, shown in zip(groups, bare or groups, strict=True):
        if group.kind == Kind.NOT_COMPARED:
            unknown += group.count
        if group.kind not in _TOLD or len(group.steps) != len(place):
            continue
        for step, index in place.items():
            letter = group.steps[index]
            not_applied[step] += group.count if letter == "N" else 0
            if letter in "ED":
                n[step] += group.count
                if group.kind == Kind.UNVERIFIED:
                    unverified[step] += group.count
                elif letter == "D":
                    bad[step] += group.count
                elif shown.steps[index] == "D" and shown.kind != Kind.UNVERIFIED:
                    hidden[step] += group.count
    return {
        step: Tally(
            n=n[step], bad=bad[step], hidden=hidden[step], unverified=unverified[step],
            unknown=unknown if n[step] else 0, not_applied=not_applied[step],
        )
        for step in order
    }  # fmt: skip


def failure_pairs(groups: Iterable[Group], missing: int = 0) -> Pairs:
    """Ticks that one of the two did not bring to a good end. Steps given up on the way are compared as steps."""
    n = new_only = old_only = 0
    unknown = missing
    for group in groups:
        if group.control_outcome is None or group.candidate_outcome is None:
            unknown += group.count
            continue
        n += group.count
        old, new = group.control_outcome != "done", group.candidate_outcome != "done"
        new_only += group.count if new and not old else 0
        old_only += group.count if old and not new else 0
    return Pairs(n=n, new_only=new_only, old_only=old_only, unknown=unknown)


def up_to(groups: Sequence[Sequence[Group]]) -> list[list[Group]]:
    """Groups per stretch of a run, added up: all ticks until the end of each stretch."""
    total: dict[Group, int] = {}
    found: list[list[Group]] = []
    for stretch in groups:
        for group in stretch:
            key = replace(group, count=0)
            total[key] = total.get(key, 0) + group.count
        found.append([replace(key, count=count) for key, count in total.items()])
    return found
