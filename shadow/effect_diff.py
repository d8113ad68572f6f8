"""Differences between the effects of two systems in one step: multisets per kind, order per key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from shadow.diff import EXPLAIN_BUDGET_S, Change, Nature, changes
from shadow.observation import ObservedEffect
from tickover.canonical import canonical_text
from tickover.effects import Effect


def effect_changes(
    control: Sequence[ObservedEffect],
    candidate: Sequence[ObservedEffect],
    *,
    ordered: bool = True,
    budget_s: float = EXPLAIN_BUDGET_S,
) -> tuple[Change, ...]:
    """Where the effects of one step differ; paths begin with the kind.

    Per kind, the effects are multisets of payload (and key, where both sides gave one by name). Among effects of one
    key the order counts; so does, if `ordered`, the order of those that were emitted without a key: within a step
    they come one after the other. An effect that is on one side in time and on the other late is named so.
    """
    found: list[Change] = []
    kinds = dict.fromkeys(item.effect.kind for item in (*control, *candidate))
    for kind in kinds:
        left = [item for item in control if item.effect.kind == kind]
        right = [item for item in candidate if item.effect.kind == kind]
        found += _kind_changes(kind, left, right, ordered, budget_s)
    return tuple(found)


def has_default_key(effect: Effect) -> bool:
    """Whether nobody named the effect: its key only numbers it within tick, step and kind."""
    tick, number = effect.key.partition("/")[0], effect.key.rpartition("/")[2]
    return tick.isdigit() and number.isdigit() and effect.key == f"{tick}/{effect.step}/{effect.kind}/{number}"


@dataclass(frozen=True, slots=True, eq=False)
class _Item:
    """An effect beside the text that says which others are equal to it."""

    effect: Effect
    late: bool
    text: str

    @property
    def payload_text(self) -> str:
        return canonical_text(self.effect.payload)


def _kind_changes(
    kind: str, control: list[ObservedEffect], candidate: list[ObservedEffect], ordered: bool, budget_s: float
) -> list[Change]:
    named = not any(has_default_key(item.effect) for item in (*control, *candidate))
    left, right = _items(control, named), _items(candidate, named)
    timely_left, timely_right = [i for i in left if not i.late], [i for i in right if not i.late]
    only_left, only_right = _surplus(timely_left, timely_right), _surplus(timely_right, timely_left)
    found: list[Change] = []
    if not only_left and not only_right and (named or ordered):
        found += _order_changes(kind, timely_left, timely_right, named)
    for late in (item for item in left if item.late):
        twin = _take_twin(late, only_right)
        found.append(_late_change(kind, control=late, candidate=twin))
    for late in (item for item in right if item.late):
        twin = _take_twin(late, only_left)
        found.append(_late_change(kind, control=twin, candidate=late))
    want, have = {item.text for item in timely_left}, {item.text for item in timely_right}
    for item in [item for item in only_right if item.text in want]:
        only_right.remove(item)
        found.append(Change(path=(kind,), nature=Nature.DUPLICATED, candidate=item.effect.payload))
    for item in [item for item in only_left if item.text in have]:
        only_left.remove(item)
        found.append(Change(path=(kind,), nature=Nature.MISSING, control=item.effect.payload))
    return found + _pair(kind, only_left, only_right, named, budget_s)


def _items(observed: list[ObservedEffect], named: bool) -> list[_Item]:
    return [
        _Item(seen.effect, seen.late, canonical_text([seen.effect.key if named else None, seen.effect.payload]))
        for seen in observed
    ]


def _surplus(items: list[_Item], others: list[_Item]) -> list[_Item]:
    """The items that the other side does not have as often; of equal ones the last are surplus."""
    left = Counter(item.text for item in others)
    found = []
    for item in items:
        if left[item.text]:
            left[item.text] -= 1
        else:
            found.append(item)
    return found


def _order_changes(kind: str, left: list[_Item], right: list[_Item], named: bool) -> list[Change]:
    found = []
    for key in dict.fromkeys(item.effect.key for item in left) if named else (None,):
        one = [item for item in left if key is None or item.effect.key == key]
        two = [item for item in right if key is None or item.effect.key == key]
        if [item.text for item in one] != [item.text for item in two]:
            payloads = ([item.effect.payload for item in side] for side in (one, two))
            found.append(Change(path=(kind,), nature=Nature.ORDER, control=next(payloads), candidate=next(payloads)))
    return found


def _take_twin(late: _Item, surplus: list[_Item]) -> _Item | None:
    """The same effect on the other side, in time; it is no longer surplus then."""
    for index, item in enumerate(surplus):
        if item.text == late.text:
            return surplus.pop(index)
    return None


def _late_change(kind: str, *, control: _Item | None, candidate: _Item | None) -> Change:
    return Change(
        path=(kind,),
        nature=Nature.LATE,
        control=control.effect.payload if control else None,
        candidate=candidate.effect.payload if candidate else None,
    )


def _pair(kind: str, left: list[_Item], right: list[_Item], named: bool, budget_s: float) -> list[Change]:
    """What is only on one side, explained: changed from one to the other, or lost, or new."""
    found: list[Change] = []
    for one in list(left):
        two = next((item for item in right if not named or item.effect.key == one.effect.key), None)
        if two is not None:
            left.remove(one)
            right.remove(two)
            for change in changes(one.effect.payload, two.effect.payload, budget_s=budget_s):
                found.append(replace(change, path=(kind, *change.path)))
    for one in list(left):
        two = next((item for item in right if item.payload_text == one.payload_text), None)
        if two is not None:
            left.remove(one)
            right.remove(two)
            path = (kind, "(key)")
            found.append(Change(path=path, nature=Nature.VALUE, control=one.effect.key, candidate=two.effect.key))
    found += [Change(path=(kind,), nature=Nature.MISSING, control=item.effect.payload) for item in left]
    found += [Change(path=(kind,), nature=Nature.ADDED, candidate=item.effect.payload) for item in right]
    return found
