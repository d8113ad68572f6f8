"""What the doctor found: one thing that was looked at, how bad it is, and what mends it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from tickover.ground.secrets import redact_url


class Level(StrEnum):
    """How bad it is: nothing to do (OK), it hurts some day or some wishes (WARNING), it loses or stops work
    (PROBLEM)."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that was looked at; immutable, and free of passwords.

    name: a stable word. said: what was seen. remedy: the next command or change; empty where nothing is to be done.
    """

    name: str
    level: Level
    said: str
    remedy: str = ""

    def __post_init__(self) -> None:
        # Findings quote URLs and foreign errors; here is the one place that none of them can go round.
        object.__setattr__(self, "said", redact_url(self.said))
        object.__setattr__(self, "remedy", redact_url(self.remedy))

    def to_json(self) -> dict[str, str]:
        """The finding as a JSON object."""
        return {"name": self.name, "level": self.level.value, "said": self.said, "remedy": self.remedy}


def ok(name: str, said: str) -> Finding:
    """Nothing to do."""
    return Finding(name=name, level=Level.OK, said=said)


def warning(name: str, said: str, remedy: str) -> Finding:
    """It hurts some day, or some wishes."""
    return Finding(name=name, level=Level.WARNING, said=said, remedy=remedy)


def problem(name: str, said: str, remedy: str) -> Finding:
    """It loses or stops work."""
    return Finding(name=name, level=Level.PROBLEM, said=said, remedy=remedy)


def worst(findings: Iterable[Finding]) -> Level:
    """The worst level among them; OK if there are none."""
    order = list(Level)
    return max((finding.level for finding in findings), key=order.index, default=Level.OK)


def could_look(findings: Iterable[Finding]) -> bool:
    """Whether the database or the broker answered: else nothing could be looked at but settings."""
    return any(finding.name in ("database", "broker") and finding.level is Level.OK for finding in findings)
