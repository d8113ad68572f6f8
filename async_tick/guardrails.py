"""Guardrails: how much may go wrong after a switchover before the old system is put in charge again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from tickover.errors import ConfigurationError

# Who moves the route back, for the record.
AUTHOR = "tickover guardrail"


@dataclass(frozen=True, kw_only=True, slots=True)
class Guardrails:
    """Budgets for the first ticks that the new system runs; immutable. One more than a budget sends the route back.

    window_ticks: how many ticks are watched. failed: ticks that ended as failed. lost: intervals of the schedule in
    which no tick began, because one ran over them. slow: ticks longer than the interval, or than `latency_factor`
    times `baseline_ms`, which is the old system's median (None: only the interval counts). mismatches: ticks in
    which the system beside came to something else; they are counted where `serve --shadow` compares. hung_s: seconds
    that one tick may take at all. unserved_s: seconds for which no worker may be there while a tick waits. None: no
    such guardrail.
    """

    window_ticks: int = 60
    failed: int | None = 1
    lost: int | None = 2
    slow: int | None = 6
    latency_factor: float | None = 3.0
    baseline_ms: float | None = None
    mismatches: int | None = 1
    hung_s: float | None = 300.0
    unserved_s: float | None = 30.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            whole = field.name in ("window_ticks", "failed", "lost", "slow", "mismatches")
            if value is None and field.name != "window_ticks":
                continue
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
                raise ConfigurationError(f"guardrail {field.name} is a number, not {value!r}")
            if not math.isfinite(value) or value < 0 or (value == 0 and field.name not in _BUDGETS):
                raise ConfigurationError(f"guardrail {field.name} cannot be {value}")

    @property
    def limit_ms(self) -> float | None:
        """The latency over which a tick is slow whatever its interval; None where no median is known."""
        if self.latency_factor is None or self.baseline_ms is None:
            return None
        return self.latency_factor * self.baseline_ms

    def to_json(self) -> dict[str, Any]:
        """The guardrails as a JSON document."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Guardrails:
        """The guardrails of a document; what it leaves out has its default. Raises ConfigurationError."""
        unknown = sorted(set(document) - {field.name for field in fields(cls)})
        if unknown:
            raise ConfigurationError(
                f"there is no guardrail {', '.join(unknown)}; there are {', '.join(f.name for f in fields(cls))}"
            )
        return cls(**document)


_BUDGETS = ("failed", "lost", "slow", "mismatches")
_WHAT = {
    "failed": ("failed tick", "failed ticks"),
    "lost": ("lost interval", "lost intervals"),
    "slow": ("slow tick", "slow ticks"),
    "mismatches": ("mismatch", "mismatches"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """How much of the guardrails is used; immutable. ticks: how many of the window have ended. running_s: since when
    the next one runs, None if none does. unserved_s: since when it has had no worker."""

    ticks: int = 0
    failed: int = 0
    lost: int = 0
    slow: int = 0
    mismatches: int = 0
    running_s: float | None = None
    unserved_s: float = 0.0


def broken(guardrails: Guardrails, usage: Usage) -> str | None:
    """Why the route is to go back, or None while every guardrail holds."""
    for name in _BUDGETS:
        budget, used = getattr(guardrails, name), getattr(usage, name)
        if budget is not None and used > budget:
            return (
                f"{used} {_WHAT[name][used != 1]} in the first {guardrails.window_ticks} ticks of the new system, "
                f"and {budget} allowed"
            )
    if usage.running_s is None or usage.ticks >= guardrails.window_ticks:
        return None
    if guardrails.hung_s is not None and usage.running_s > guardrails.hung_s:
        return f"a tick has not ended after {usage.running_s:.0f} s, and {guardrails.hung_s:g} s are allowed"
    if guardrails.unserved_s is not None and usage.unserved_s > guardrails.unserved_s:
        return (
            f"no worker has been there for {usage.unserved_s:.0f} s while a tick waits, "
            f"and {guardrails.unserved_s:g} s are allowed"
        )
    return None


def lines(guardrails: Guardrails, usage: Usage) -> list[str]:
    """Guardrails and what is used of them, for people: one line each."""
    said = [
        f"{_WHAT[name][1]}: {getattr(usage, name)} of {budget}"
        for name in _BUDGETS
        if (budget := getattr(guardrails, name)) is not None
    ]
    if guardrails.limit_ms is not None:
        said.append(f"a tick is slow over its interval or {guardrails.limit_ms:.0f} ms")
    if guardrails.hung_s is not None:
        said.append(f"a tick may take {guardrails.hung_s:g} s")
    if guardrails.unserved_s is not None:
        said.append(f"a tick may wait {guardrails.unserved_s:g} s without a worker")
    return said
