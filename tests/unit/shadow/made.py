"""Observations made by hand, for tests of what is pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shadow.observation import Graph, Observation, ObservedEffect, Outcome, StepObservation, StepStatus
from tickover.effects import Effect, default_key
from tickover.execution import Purpose, System

GRAPH = Graph(
    order=("think", "act", "learn", "rest"),
    needs={"think": (), "act": ("think",), "learn": ("act",), "rest": ("act",)},
)


def effects_of(items: Sequence[tuple[Any, ...]], tick: int = 7) -> tuple[ObservedEffect, ...]:
    """Effects from (step, kind, payload[, key]) in order of emission."""
    numbers: dict[str, int] = {}
    kinds: dict[tuple[str, str], int] = {}
    found = []
    for step, kind, payload, *key in items:
        number, in_kind = numbers.get(step, 0), kinds.get((step, kind), 0)
        numbers[step], kinds[step, kind] = number + 1, in_kind + 1
        position = GRAPH.order.index(step) if step in GRAPH.order else 0
        name = key[0] if key else default_key(tick, step, kind, in_kind)
        found.append(
            ObservedEffect(
                effect=Effect(step=step, position=position, number=number, kind=kind, payload=payload, key=name)
            )
        )
    return tuple(found)


def observe(
    results: Mapping[str, Any],
    effects: Sequence[tuple[Any, ...]] = (),
    *,
    system: System = System.LEGACY,
    outcome: Outcome = Outcome.DONE,
    purpose: Purpose = Purpose.CONTROL,
    state: Any = None,
    steps: Mapping[str, StepObservation] | None = None,
    diverged: Mapping[str, tuple[str, ...]] | None = None,
    visible: tuple[str, ...] = GRAPH.order,
) -> Observation:
    """An observation of tick 7 in which each step returned what `results` says; `steps` replaces some of them."""
    done = {name: StepObservation(status=StepStatus.DONE, result=result) for name, result in results.items()}
    return Observation(
        run="r",
        tick=7,
        system=system,
        purpose=purpose,
        outcome=outcome,
        duration_ms=1.0,
        started_at="2026-01-01T00:00:00+00:00",
        visible=visible,
        steps={**done, **(steps or {})},
        effects=effects_of(effects),
        state_after=state,
        diverged=diverged or {},
    )
