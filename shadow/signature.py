"""Attribution and signatures: where two systems part first, and which partings have one cause."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from shadow.diff import Change, Nature, generalise, show
from shadow.observation import Graph
from tickover.canonical import Json, canonical_text, digest

# Attributed to no step: the state afterwards differs though every step agrees (the reducer, or what legacy does
# outside its steps).
STATE = "state"
# Attributed to no step: legacy names none, or did it outside all of them.
NO_STEP = "(no attribution)"
# A value longer than this is stored by its beginning.
CLIP_CHARS = 4000

Atom = tuple[str, str, str]


class Area(StrEnum):
    """What of a step differs, in the order of cause and effect."""

    STATUS = "status"
    CALLS = "calls"
    RESULT = "result"
    EFFECTS = "effects"
    STATE = "state"


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One difference between two observations: a change, in an area of a step; immutable."""

    step: str
    area: Area
    change: Change

    @property
    def atom(self) -> Atom:
        """What it has in common with every difference of the same cause."""
        return (self.area.value, generalise(self.change.path), self.change.nature.value)

    @property
    def where(self) -> str:
        """The place, for people."""
        return f"{self.area}: {show(self.change.path)}"

    def to_json(self) -> dict[str, Any]:
        """The difference as a JSON document; very long values by their beginning."""
        return {
            "step": self.step,
            "area": self.area.value,
            "path": list(self.change.path),
            "nature": self.change.nature.value,
            "control": _clip(self.change.control),
            "candidate": _clip(self.change.candidate),
        }


def _clip(value: Json) -> Json:
    text = canonical_text(value)
    if len(text) <= CLIP_CHARS:
        return value
    return {"clipped": text[:CLIP_CHARS], "chars": len(text)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Attribution:
    """A step at which the two part while all that it depends on agrees; immutable.

    atoms: the places, generalised. signature: their digest.
    """

    step: str
    atoms: tuple[Atom, ...]

    @property
    def signature(self) -> str:
        """The name under which equal causes are one."""
        return digest([self.step, self.atoms])[:16]

    def to_json(self) -> dict[str, Any]:
        """The attribution as a JSON document."""
        return {"step": self.step, "signature": self.signature, "atoms": [list(atom) for atom in self.atoms]}


def attribute(differences: Sequence[Difference], graph: Graph) -> tuple[Attribution, ...]:
    """The steps at which the two part, first in the graph first; consequences in later steps are left out.

    Of a step, what it was asked and how it ended explains the rest: where its status differs only that counts, else
    where its calls differ only those.
    """
    by_step: dict[str, list[Difference]] = {}
    for difference in differences:
        by_step.setdefault(difference.step, []).append(difference)
    rank = {step: index for index, step in enumerate((*graph.order, NO_STEP, STATE))}
    roots = [
        step
        for step in sorted(by_step, key=lambda name: rank.get(name, len(rank)))
        if not graph.before(step) & by_step.keys()
    ]
    if any(step in graph.needs for step in roots):
        roots = [step for step in roots if step != STATE]
    return tuple(Attribution(step=step, atoms=_atoms(by_step[step])) for step in roots)


def _atoms(differences: Sequence[Difference]) -> tuple[Atom, ...]:
    for area in (Area.STATUS, Area.CALLS):
        first = [difference for difference in differences if difference.area is area]
        if first:
            return tuple(sorted({difference.atom for difference in first}))
    return tuple(sorted({difference.atom for difference in differences}))


def status_change(control: str, candidate: str, error: str | None) -> Change:
    """The change that stands for a step that ended otherwise; the class of the error is part of the cause."""
    cause = re.match(r"[A-Za-z_][\w.]*", error or "")
    path = (f"{control} -> {candidate}",) if cause is None else (f"{control} -> {candidate}", cause.group())
    return Change(path=path, nature=Nature.VALUE, control=control, candidate=candidate if error is None else error)


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Mismatches that have one cause: same step, and places that occur together; immutable."""

    step: str
    atoms: tuple[Atom, ...]
    signatures: tuple[str, ...]
    count: int
    first_tick: int
    last_tick: int
    kinds: tuple[str, ...]

    @property
    def name(self) -> str:
        """A short name that stays the same while the cause shows at the same first place."""
        return digest([self.step, self.atoms[:1]])[:8]

    @property
    def sentence(self) -> str:
        """The finding in one line: step, what differs where, how often, and the ticks between which."""
        area, path, nature = self.atoms[0]
        more = f" and {len(self.atoms) - 1} more" if len(self.atoms) > 1 else ""
        ticks = f"ticks {self.first_tick} to {self.last_tick}" if self.count > 1 else f"tick {self.first_tick}"
        return f"{self.name}  step {self.step}: {area} {path} ({nature}){more}, {self.count} times, {ticks}"

    def to_json(self) -> dict[str, Any]:
        """The finding as a JSON document."""
        return {
            "name": self.name,
            "step": self.step,
            "places": [{"area": area, "path": path, "nature": nature} for area, path, nature in self.atoms],
            "signatures": list(self.signatures),
            "count": self.count,
            "first_tick": self.first_tick,
            "last_tick": self.last_tick,
            "kinds": list(self.kinds),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Sighting:
    """All comparisons of one kind with one signature, counted; immutable."""

    step: str
    signature: str
    kind: str
    atoms: tuple[Atom, ...]
    count: int
    first_tick: int
    last_tick: int


def findings(sightings: Iterable[Sighting]) -> tuple[Finding, ...]:
    """The findings that sightings make: of one step, those that share a place are one. Most frequent first.

    A cause shows at different places on different ticks (a rounded value is equal to the exact one now and then), so
    equal signatures alone would count one cause many times.
    """
    groups: list[list[Sighting]] = []
    for sighting in sightings:
        touching = [
            group
            for group in groups
            if any(other.step == sighting.step and set(other.atoms) & set(sighting.atoms) for other in group)
        ]
        groups = [group for group in groups if group not in touching]
        groups.append([sighting, *(one for group in touching for one in group)])
    return tuple(sorted((_finding(group) for group in groups), key=lambda f: (-f.count, f.first_tick, f.step)))


def _finding(group: list[Sighting]) -> Finding:
    weight: dict[Atom, int] = {}
    for sighting in group:
        for atom in sighting.atoms:
            weight[atom] = weight.get(atom, 0) + sighting.count
    return Finding(
        step=group[0].step,
        atoms=tuple(sorted(weight, key=lambda atom: (-weight[atom], atom))),
        signatures=tuple(sorted({sighting.signature for sighting in group})),
        count=sum(sighting.count for sighting in group),
        first_tick=min(sighting.first_tick for sighting in group),
        last_tick=max(sighting.last_tick for sighting in group),
        kinds=tuple(sorted({sighting.kind for sighting in group})),
    )
