"""What rules hid of a comparison, kept with it, so that a verdict can be computed without rules, or without those
whose day has passed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shadow.rules import Rules, Tolerance
from shadow.signature import Area, Difference

# Kinds of change of an effect that bar READY where nothing else of the step differs.
_DAMAGE = frozenset({"missing", "duplicated"})


@dataclass(frozen=True, kw_only=True, slots=True)
class HiddenStep:
    """What rules hid of one step; immutable.

    rules: the names of those that hid something there. damage: "missing" or "duplicated" or both, if without rules
    the step would have lost or doubled effects though its results agree; empty otherwise.
    """

    rules: tuple[str, ...]
    damage: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Hidden:
    """What rules hid of a comparison; immutable. kind: what the comparison would be without any rule. steps: where
    they hid something, a step's name or one of the names that stand for no step."""

    kind: str
    steps: Mapping[str, HiddenStep]

    def to_json(self) -> dict[str, Any]:
        """What was hidden as a JSON document, the same for equal cases, so that they can be counted together."""
        return {
            "kind": self.kind,
            "steps": {
                step: {"rules": list(found.rules), **({"damage": list(found.damage)} if found.damage else {})}
                for step, found in sorted(self.steps.items())
            },
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Hidden:
        """What `to_json` wrote."""
        steps = {
            step: HiddenStep(rules=tuple(found["rules"]), damage=tuple(found.get("damage", ())))
            for step, found in document["steps"].items()
        }
        return cls(kind=document["kind"], steps=steps)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sifted:
    """Differences as rules leave them; immutable. kept: what no rule hides. tolerances: rules that hid something,
    each once. steps: where."""

    kept: list[Difference]
    tolerances: tuple[Tolerance, ...]
    steps: Mapping[str, HiddenStep]

    def hidden(self, kind: str) -> Hidden | None:
        """What was hidden of a comparison that would be of this kind without rules; None if nothing was."""
        return Hidden(kind=kind, steps=self.steps) if self.steps else None


def sift(found: Sequence[Difference], rules: Rules) -> Sifted:
    """The differences that no rule hides, apart from those that one does."""
    kept: list[Difference] = []
    by: dict[str, Tolerance] = {}
    names: dict[str, set[str]] = {}
    for difference in found:
        tolerance = rules(difference.step, difference.area.value, difference.change)
        if tolerance is None:
            kept.append(difference)
            continue
        by[tolerance.rule] = tolerance
        names.setdefault(difference.step, set()).add(tolerance.rule)
    steps = {
        step: HiddenStep(rules=tuple(sorted(rules_of)), damage=_damage([each for each in found if each.step == step]))
        for step, rules_of in names.items()
    }
    return Sifted(kept=kept, tolerances=tuple(by.values()), steps=steps)


def _damage(found: Sequence[Difference]) -> tuple[str, ...]:
    natures = {each.change.nature.value for each in found}
    only = all(each.area is Area.EFFECTS for each in found) and natures <= _DAMAGE
    return tuple(sorted(natures)) if only else ()
