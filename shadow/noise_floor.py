"""The noise floor: a share of ticks on which the old system runs a second time, on a copy, from the same tape and
draws. Where it then differs from itself, the new one cannot be held to equality."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable
from dataclasses import dataclass

from shadow.compare import differences
from shadow.diff import Change, generalise
from shadow.noise import by_form
from shadow.observation import Graph, Observation, StepStatus
from shadow.plan import RunPlan
from shadow.rules import Tolerance
from tickover.draws import seed_of

_NAME = "noise"


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseRow:
    """What a tick showed of a step's noise; immutable. old_differs: the old system from itself; new_differs: the new
    one from it. places: (area, path) at which the old one differs from itself."""

    step: str
    old_differs: bool
    new_differs: bool
    places: tuple[tuple[str, str], ...]


def is_noise_tick(plan: RunPlan, tick: int) -> bool:
    """Whether the old system runs this tick a second time: drawn by seed and tick, so that a resumed run agrees."""
    return plan.noise > 0 and random.Random(seed_of(plan.seed, tick, "noise")).random() < plan.noise


def noise_rows(control: Observation, again: Observation, candidate: Observation, graph: Graph) -> list[NoiseRow]:
    """What a tick that ran three times shows, for each step that ran in the control."""
    old, new = differences(control, again, graph), differences(control, candidate, graph)
    ran = [name for name, step in control.steps.items() if step.status is StepStatus.DONE]
    return [
        NoiseRow(
            step=step,
            old_differs=any(found.step == step for found in old),
            new_differs=any(found.step == step for found in new),
            places=tuple(sorted({(d.area.value, generalise(d.change.path)) for d in old if d.step == step})),
        )
        for step in ran
    ]


class NoisyPlaces:
    """Where the old system was seen to differ from itself; grows with the run. Threads may share it."""

    def __init__(self, rows: Iterable[NoiseRow] = ()) -> None:
        self._places: set[tuple[str, str, str]] = set()
        self._lock = threading.Lock()
        self.learn(rows)

    def learn(self, rows: Iterable[NoiseRow]) -> None:
        """Remember the places of these rows."""
        with self._lock:
            self._places.update((row.step, area, path) for row in rows for area, path in row.places)

    def __call__(self, step: str, area: str, change: Change) -> Tolerance | None:
        """The tolerance of a change at a noisy place whose type, range and form are those of the control; else
        None."""
        with self._lock:
            known = (step, area, generalise(change.path)) in self._places
        if not known or by_form(change) is not None:
            return None
        return Tolerance(rule=_NAME, reason="the old system differs from itself there", owner="tickover")
