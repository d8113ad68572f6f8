"""Effects: what a tick does to the world, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """One declared effect; immutable.

    step: the step that emitted it ("" where a legacy without known steps did). position: the step's place in the
    graph. number: its place among the step's emissions, from 0. kind: what sort of thing it is ("memories",
    "messages"). payload: plain JSON. key: names the effect in its kind; equal keys are one effect to a receiver
    outside.
    """

    step: str
    position: int
    number: int
    kind: str
    payload: Any
    key: str

    @property
    def order(self) -> tuple[int, int]:
        """Its place in the one order in which effects apply."""
        return (self.position, self.number)

    def to_json(self) -> dict[str, Any]:
        """The effect as a JSON document."""
        return {
            "step": self.step,
            "position": self.position,
            "number": self.number,
            "kind": self.kind,
            "payload": self.payload,
            "key": self.key,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Effect:
        """The effect that `to_json` wrote."""
        return cls(**{name: document[name] for name in ("step", "position", "number", "kind", "payload", "key")})


def default_key(tick: int, step: str, kind: str, number: int) -> str:
    """The key of an effect that was emitted without one: never the attempt, the system or the payload."""
    return f"{tick}/{step}/{kind}/{number}"
