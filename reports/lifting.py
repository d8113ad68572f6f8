"""Rules lifted: ticks as they would have been judged if rules had hidden nothing, step by step."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from reports.aggregates import Group
from shadow.compare import Kind
from shadow.hidden import Hidden
from shadow.observation import Graph

# Kinds in which what a rule hid leaves no other trace.
_QUIET = frozenset({Kind.TOLERATED, Kind.IMPROVED, Kind.MATCH})


def lift(groups: Iterable[Group], graph: Graph, rules: Collection[str] | None = None) -> list[Group]:
    """The groups, in their order, as if these rules had hidden nothing (None: as if there had been no rule).

    A place that one of the rules hid counts again, even if another would have hidden it too. What differs only as a
    consequence of it is then a consequence, and no evidence for its own step.
    """
    return [_lifted(group, graph, rules) for group in groups]


def hidden_of(group: Group) -> Hidden | None:
    """What rules hid of the ticks of a group; None if nothing."""
    return None if group.hidden is None else Hidden.from_json(json.loads(group.hidden))


def hidden_by_rule(groups: Iterable[Group]) -> dict[str, dict[str, int]]:
    """Rule -> step -> ticks on which it hid something there; steps may be names that stand for no step."""
    found: dict[str, dict[str, int]] = {}
    for group in groups:
        hidden = hidden_of(group)
        for step, places in (hidden.steps if hidden else {}).items():
            for rule in places.rules:
                of = found.setdefault(rule, {})
                of[step] = of.get(step, 0) + group.count
    return found


def ticks_by_rule(groups: Iterable[Group]) -> dict[str, int]:
    """Rules that hid something -> the ticks on which they did, most first."""
    found: Counter[str] = Counter()
    for group in groups:
        for rule in group.rules or ():
            found[rule] += group.count
    return dict(sorted(found.items(), key=lambda rule: (-rule[1], rule[0])))


def damage(groups: Iterable[Group], rules: Collection[str] | None = None) -> Iterator[tuple[str, str, int]]:
    """(step, "loses" or "doubles" or both, ticks) where these rules (None: any) hide that effects were lost or
    doubled though results agree, which would bar READY."""
    found: dict[tuple[str, str], int] = {}
    for group in groups:
        hidden = hidden_of(group)
        for step, places in (hidden.steps if hidden else {}).items():
            if places.damage and (rules is None or not set(rules).isdisjoint(places.rules)):
                both = len(places.damage) > 1
                verb = "loses or doubles" if both else "loses" if "missing" in places.damage else "doubles"
                found[step, verb] = found.get((step, verb), 0) + group.count
    for (step, verb), count in sorted(found.items()):
        yield step, verb, count


def _lifted(group: Group, graph: Graph, rules: Collection[str] | None) -> Group:
    hidden = hidden_of(group)
    if hidden is None:
        # A tick that rules made equal, of which nobody wrote down where.
        return replace(group, kind=Kind.MISMATCH) if group.kind == Kind.TOLERATED and rules is None else group
    shown = {
        step for step, places in hidden.steps.items() if rules is None or not set(rules).isdisjoint(places.rules)
    }
    if not shown:
        return group
    left = {step: places for step, places in hidden.steps.items() if step not in shown}
    return replace(
        group,
        kind=hidden.kind if group.kind in _QUIET else group.kind,
        steps=_letters(group.steps, shown, graph),
        hidden=json.dumps(Hidden(kind=hidden.kind, steps=left).to_json()) if left else None,
    )


def _letters(letters: str, shown: Collection[str], graph: Graph) -> str:
    """The letters of the steps if these differ too: the first ones do, those that depend on one that does follow."""
    names = sorted(graph.order, key=lambda name: name.encode())
    if len(letters) != len(names):
        return letters
    before: Mapping[str, str] = dict(zip(names, letters, strict=True))
    touched = {step for step, letter in before.items() if letter in "DC"} | set(shown)
    return "".join(
        letter if step not in touched else "C" if graph.before(step) & touched else "D"
        for step, letter in before.items()
    )
