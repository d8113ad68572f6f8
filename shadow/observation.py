"""Observations: what one system did with one tick, frozen once made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tickover.canonical import Json
from tickover.effects import Effect
from tickover.execution import Purpose, System
from tickover.workflow import Workflow


class Outcome(StrEnum):
    """How a tick ended in one system."""

    DONE = "done"
    FAILED = "failed"  # the system said so
    LOST = "lost"  # its process died, or it never answered


class StepStatus(StrEnum):
    """How a step ended in one system."""

    DONE = "done"
    FALLBACK = "fallback"  # all attempts failed and the fallback stood in
    FAILED = "failed"
    GAVE_UP = "gave_up"  # the system stopped waiting for it; its thread may go on
    NOT_APPLICABLE = "not_applicable"
    NOT_REACHED = "not_reached"  # something before it failed


# Statuses under which a step has a result.
RAN = frozenset({StepStatus.DONE, StepStatus.FALLBACK})
# Statuses under which the system itself says that the step did not do its work.
TROUBLE = frozenset({StepStatus.FAILED, StepStatus.GAVE_UP})


@dataclass(frozen=True, kw_only=True, slots=True)
class StepObservation:
    """What one step did; immutable. started_ms: since the tick's start. attempts: 0 if it never ran."""

    status: StepStatus
    result: Json = None
    error: str | None = None
    attempts: int = 1
    recoveries: int = 0
    started_ms: float | None = None
    duration_ms: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The step as a JSON document."""
        return {name: getattr(self, name) for name in self.__slots__} | {"status": self.status.value}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> StepObservation:
        """The step that `to_json` wrote."""
        return cls(**{**document, "status": StepStatus(document["status"])})


@dataclass(frozen=True, kw_only=True, slots=True)
class ObservedEffect:
    """An effect as a system was seen to have it; immutable. late: it came after the system had given up waiting."""

    effect: Effect
    late: bool = False

    def to_json(self) -> dict[str, Any]:
        """The effect as a JSON document."""
        return {**self.effect.to_json(), "late": self.late}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> ObservedEffect:
        """The effect that `to_json` wrote."""
        return cls(effect=Effect.from_json(document), late=bool(document.get("late", False)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """What one system did with one tick; immutable.

    visible: the steps that can be seen in this system (empty: it is known as a whole only). state_after: the state
    document afterwards, None if it could not be read. state_disturbed: a late effect of an earlier tick fell into
    this one, so the state says nothing of it. draws: per step what it took from clock, randomness and identifiers.
    diverged: step -> doors at which it drew otherwise than the control. unobserved: doors that no adapter watches.
    """

    run: str
    tick: int
    system: System
    purpose: Purpose
    outcome: Outcome
    duration_ms: float
    started_at: str
    error: str | None = None
    visible: tuple[str, ...] = ()
    steps: Mapping[str, StepObservation] = field(default_factory=dict)
    effects: tuple[ObservedEffect, ...] = ()
    result: Json = None
    state_after: Json = None
    state_disturbed: bool = False
    draws: Mapping[str, Any] | None = None
    diverged: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unobserved: tuple[str, ...] = ()

    @property
    def trouble(self) -> tuple[str, ...]:
        """The steps that failed or were given up in this system."""
        return tuple(name for name, step in self.steps.items() if step.status in TROUBLE)

    @property
    def is_whole(self) -> bool:
        """Whether the tick ended well, with no step failed or given up, and no earlier tick's write in its midst."""
        return self.outcome is Outcome.DONE and not self.trouble and not self.state_disturbed

    def to_json(self) -> dict[str, Any]:
        """The observation as a JSON document, without `state_after`, which is kept apart."""
        return {
            "run": self.run,
            "tick": self.tick,
            "system": self.system.value,
            "purpose": self.purpose.value,
            "outcome": self.outcome.value,
            "duration_ms": self.duration_ms,
            "started_at": self.started_at,
            "error": self.error,
            "visible": list(self.visible),
            "steps": {name: step.to_json() for name, step in self.steps.items()},
            "effects": [effect.to_json() for effect in self.effects],
            "result": self.result,
            "state_disturbed": self.state_disturbed,
            "draws": self.draws,
            "diverged": {step: list(doors) for step, doors in self.diverged.items()},
            "unobserved": list(self.unobserved),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any], state_after: Json = None) -> Observation:
        """The observation that `to_json` wrote, with its state put back."""
        fields = dict(document)
        fields.update(
            system=System(document["system"]),
            purpose=Purpose(document["purpose"]),
            outcome=Outcome(document["outcome"]),
            visible=tuple(document["visible"]),
            steps={name: StepObservation.from_json(step) for name, step in document["steps"].items()},
            effects=tuple(ObservedEffect.from_json(effect) for effect in document["effects"]),
            diverged={step: tuple(doors) for step, doors in document["diverged"].items()},
            unobserved=tuple(document["unobserved"]),
            state_after=state_after,
        )
        return cls(**fields)


@dataclass(frozen=True, kw_only=True, slots=True)
class Graph:
    """The steps of a workflow in graph order with their needs, as a value that can be stored; immutable."""

    order: tuple[str, ...]
    needs: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, workflow: Workflow) -> Graph:
        """The graph of a workflow."""
        return cls(order=workflow.order, needs={step.name: step.needs for step in workflow.steps})

    def before(self, step: str) -> frozenset[str]:
        """All steps that this one depends on, directly or not."""
        found: set[str] = set()
        waiting = list(self.needs.get(step, ()))
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting.extend(self.needs.get(name, ()))
        return frozenset(found)

    def to_json(self) -> dict[str, Any]:
        """The graph as a JSON document."""
        return {"order": list(self.order), "needs": {name: list(needs) for name, needs in self.needs.items()}}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Graph:
        """The graph that `to_json` wrote."""
        return cls(
            order=tuple(document["order"]), needs={name: tuple(needs) for name, needs in document["needs"].items()}
        )
