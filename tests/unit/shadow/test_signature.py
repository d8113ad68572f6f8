"""Findings: equal causes are one, whatever places they show at on a tick."""

from __future__ import annotations

from shadow.signature import Sighting, findings


def sighting(step: str, *places: str, count: int = 1, tick: int = 0, kind: str = "mismatch") -> Sighting:
    atoms = tuple(("result", place, "value") for place in places)
    return Sighting(
        step=step, signature="/".join((step, *places)), kind=kind, atoms=atoms, count=count, first_tick=tick,
        last_tick=tick + count,
    )  # fmt: skip


def test_places_that_occur_together_are_one_finding() -> None:
    """Two signatures that a third one ties together are one cause; counts and ticks add up."""
    (found,) = findings(
        [sighting("act", "a", tick=3), sighting("act", "b", tick=9), sighting("act", "a", "b", count=5)]
    )
    assert (found.count, found.first_tick, found.last_tick) == (7, 0, 10)
    assert len(found.signatures) == 3


def test_steps_and_unrelated_places_are_apart() -> None:
    """The same place in another step, and another place in the same step, are other causes."""
    found = findings([sighting("act", "a", count=3), sighting("act", "b"), sighting("learn", "a", count=2)])
    assert [(f.step, f.count) for f in found] == [("act", 3), ("learn", 2), ("act", 1)]


def test_a_finding_keeps_its_name_while_its_first_place_leads() -> None:
    """More of the same cause does not rename a finding."""
    (before,) = findings([sighting("act", "a", count=4)])
    (after,) = findings([sighting("act", "a", count=4), sighting("act", "a", "b", count=2)])
    assert before.name == after.name
