"""Rules: differences that someone has answered for. This is the seam; without a rule nothing is tolerated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shadow.diff import Change


@dataclass(frozen=True, kw_only=True, slots=True)
class Tolerance:
    """A rule that hid a difference; immutable."""

    rule: str
    reason: str
    owner: str


# (step, area, change) -> the rule that tolerates the change, or None.
Rules = Callable[[str, str, Change], Tolerance | None]


def no_rules(step: str, area: str, change: Change) -> Tolerance | None:
    """Tolerates nothing."""
    return None
