"""What the steps of one execution must do, said again in the plainest way: the model that the engine is held to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

OPEN = ("waiting", "ready", "running")
# How the status of a step may change; what is over stays as it is.
LEGAL = {
    ("waiting", "ready"), ("ready", "running"), ("running", "ready"), ("running", "done"), ("running", "failed"),
    ("running", "not_applicable"), ("waiting", "cancelled"), ("ready", "cancelled"), ("running", "cancelled"),
}  # fmt: skip


@dataclass
class StepModel:
    """One step. deferred: waits for its next attempt. expired: its lease is over. overdue: its deadline is, too."""

    needs: frozenset[str]
    critical: bool
    status: str = "waiting"
    phase: str = "run"
    attempt: int = 0
    recoveries: int = 0
    failure: str | None = None
    token: str | None = None
    owner: int | None = None
    deferred: bool = False
    expired: bool = False
    overdue: bool = False
    effects: list[str] = field(default_factory=list)
    result: str | None = None


class ExecutionModel:
    """The steps of one execution, by name in graph order, and the execution's status."""

    def __init__(self, needs: Mapping[str, Iterable[str]], critical: Mapping[str, bool]) -> None:
        self.steps = {name: StepModel(frozenset(needs[name]), critical[name]) for name in needs}
        self.status = "running"
        self._ready_what_can_be()

    def claimable(self) -> list[str]:
        """The steps that a hint finds, in graph order."""
        return [name for name, step in self.steps.items() if step.status == "ready" and not step.deferred]

    def holds(self, name: str, token: str) -> bool:
        """Whether the token is the one that may finish the step."""
        return self.steps[name].status == "running" and self.steps[name].token == token

    def take(self, name: str, token: str, owner: int) -> StepModel:
        """The step, now held with the token."""
        step = self.steps[name]
        step.status, step.token, step.owner = "running", token, owner
        step.attempt += step.phase == "run"
        step.expired = step.overdue = False
        return step

    def end(self, name: str, status: str, failure: str | None = None) -> list[str]:
        """The step is over; the steps that became ready."""
        step = self.steps[name]
        step.status, step.token, step.failure = status, None, failure
        if status == "failed" and step.critical:
            for other in self.steps.values():
                if other.status in OPEN:
                    other.status, other.token = "cancelled", None
            self.status = "failed"
            return []
        ready = self._ready_what_can_be()
        if not any(other.status in OPEN for other in self.steps.values()):
            self.status = "done"
        return ready

    def give_back(self, name: str, failure: str, *, fallback: bool, deferred: bool) -> None:
        """The attempt failed; another, or the fallback, may be claimed."""
        step = self.steps[name]
        step.status, step.token, step.failure, step.deferred = "ready", None, failure, deferred
        if fallback:
            step.phase = "fallback"

    def recover(self, name: str, most: int) -> None:
        """Its owner is gone: it may be claimed again, as if this attempt had not been, but not for ever."""
        step = self.steps[name]
        if step.status != "running":
            return
        if step.recoveries >= most:
            self.end(name, "failed", f"its worker died {most + 1} times")
            return
        step.status, step.token = "ready", None
        step.recoveries += 1
        step.attempt -= step.phase == "run"

    def _ready_what_can_be(self) -> list[str]:
        ready = [
            name
            for name, step in self.steps.items()
            if step.status == "waiting" and not any(self.steps[need].status in OPEN for need in step.needs)
        ]
        for name in ready:
            self.steps[name].status = "ready"
        return ready
