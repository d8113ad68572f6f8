"""What the legacy process is asked, and what it saw: the documents that cross the pipe."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tickover.canonical import Json
from tickover.effects import Effect
from tickover.tape import TapeEntry


class Mode(StrEnum):
    """How the adapters treat a tick."""

    RECORD = "record"  # leave it alone; note what it draws, record what it calls
    COPY = "copy"  # on a copy of the state: derived draws; calls from the tape with their latency, else live
    REFERENCE = "reference"  # as a copy, but the tape answers at once, so that legacy's limits never bite


class Outcome(StrEnum):
    """How a tick of legacy ended."""

    DONE = "done"  # the callable returned
    FAILED = "failed"  # it raised
    LOST = "lost"  # its process died, or did not answer within the limit


@dataclass(frozen=True, kw_only=True)
class LegacyRequest:
    """One tick to run; immutable.

    run, tick: identity, which derived draws depend on. mode: how the adapters treat it. tape: calls that may be
    replayed (never in record mode). on_miss: "live" calls what is not on the tape and records it, except for methods
    that write; "fail" forbids it. started_at: the tick's instant, aware; what derived clocks show. draws: {step:
    record}, drawn in place of derived values. execution_id: noted in the calls it records. faults: the document of
    a fault to inject (`tickover.faults`), for a drill's copy only.
    """

    run: str
    tick: int
    mode: Mode = Mode.RECORD
    tape: tuple[TapeEntry, ...] = ()
    on_miss: str = "live"
    started_at: dt.datetime | None = None
    draws: Mapping[str, Mapping[str, Any]] | None = None
    execution_id: str | None = None
    faults: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The request as a JSON document."""
        return {
            "run": self.run,
            "tick": self.tick,
            "mode": self.mode.value,
            "tape": [entry.to_json() for entry in self.tape],
            "on_miss": self.on_miss,
            "started_at": self.started_at.isoformat() if self.started_at else None,
            "draws": self.draws,
            "execution_id": self.execution_id,
            "faults": self.faults,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> LegacyRequest:
        """The request that `to_json` wrote."""
        started_at = document["started_at"]
        return cls(
            run=document["run"],
            tick=document["tick"],
            mode=Mode(document["mode"]),
            tape=tuple(TapeEntry.from_json(entry) for entry in document["tape"]),
            on_miss=document["on_miss"],
            started_at=dt.datetime.fromisoformat(started_at) if started_at else None,
            draws=document["draws"],
            execution_id=document["execution_id"],
            faults=document["faults"],
        )


@dataclass(frozen=True, kw_only=True)
class StepObservation:
    """What one step of legacy did; immutable.

    result: what it returned, normalised (None if it raised or was not done). error: "Type: message" of what it
    raised. not_canonical: why its result has no JSON form; result is then None. started_ms: since the tick began.
    duration_ms: None while it was still running when the observation was made. gave_up: its caller went on without
    it. calls: how often its function was entered.
    """

    result: Json = None
    error: str | None = None
    not_canonical: str | None = None
    started_ms: float = 0.0
    duration_ms: float | None = None
    gave_up: bool = False
    calls: int = 1

    def to_json(self) -> dict[str, Any]:
        """The observation as a JSON document."""
        return dict(vars(self))

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> StepObservation:
        """The observation that `to_json` wrote."""
        return cls(**document)


@dataclass(frozen=True, kw_only=True)
class ObservedEffect:
    """An effect seen at a door; immutable.

    late: it came after the tick had returned. at_ms: when, since the tick began. door, target: as in `Write`.
    """

    effect: Effect
    late: bool
    at_ms: float
    door: str
    target: str

    def to_json(self) -> dict[str, Any]:
        """The effect as a JSON document."""
        return {**vars(self), "effect": self.effect.to_json()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ObservedEffect:
        """The effect that `to_json` wrote."""
        return cls(**{**document, "effect": Effect.from_json(document["effect"])})


@dataclass(frozen=True, kw_only=True)
class LegacyObservation:
    """What legacy did with one tick; immutable.

    outcome, error ("Type: message" of what the callable raised, or why the process was lost). result: what the
    callable returned, normalised; not_canonical: why it has no JSON form. steps: by name, those that were entered.
    effects: in the one order. calls: port calls that ended within the tick. draws: {step: {"now", "random", "ids"}},
    what record mode noted. diverged: {step: doors} where recorded draws did not suffice. state_before, state_after:
    by `read_state` (None without it). unobserved: doors that were used and no adapter watches, by name.
    observed: the adapters that watched. harness_errors: what failed in the harness itself. pid: of the process.
    """

    run: str
    tick: int
    mode: Mode
    outcome: Outcome
    error: str | None = None
    result: Json = None
    not_canonical: str | None = None
    steps: Mapping[str, StepObservation] = field(default_factory=dict)
    effects: tuple[ObservedEffect, ...] = ()
    calls: tuple[TapeEntry, ...] = ()
    draws: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    diverged: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    state_before: Json = None
    state_after: Json = None
    duration_ms: float = 0.0
    unobserved: tuple[str, ...] = ()
    observed: tuple[str, ...] = ()
    harness_errors: tuple[str, ...] = ()
    pid: int | None = None

    @property
    def declared(self) -> list[Effect]:
        """The effects of the tick itself, in the one order; late ones are left out."""
        return [seen.effect for seen in self.effects if not seen.late]

    def to_json(self) -> dict[str, Any]:
        """The observation as a JSON document."""
        return {
            **vars(self),
            "mode": self.mode.value,
            "outcome": self.outcome.value,
            "steps": {name: step.to_json() for name, step in self.steps.items()},
            "effects": [effect.to_json() for effect in self.effects],
            "calls": [entry.to_json() for entry in self.calls],
            "diverged": {name: list(doors) for name, doors in self.diverged.items()},
            "unobserved": list(self.unobserved),
            "observed": list(self.observed),
            "harness_errors": list(self.harness_errors),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> LegacyObservation:
        """The observation that `to_json` wrote."""
        return cls(
            **{
                **document,
                "mode": Mode(document["mode"]),
                "outcome": Outcome(document["outcome"]),
                "steps": {name: StepObservation.from_json(step) for name, step in document["steps"].items()},
                "effects": tuple(ObservedEffect.from_json(effect) for effect in document["effects"]),
                "calls": tuple(TapeEntry.from_json(entry) for entry in document["calls"]),
                "diverged": {name: tuple(doors) for name, doors in document["diverged"].items()},
                "unobserved": tuple(document["unobserved"]),
                "observed": tuple(document["observed"]),
                "harness_errors": tuple(document["harness_errors"]),
            }
        )


@dataclass(frozen=True, kw_only=True)
class Late:
    """What a tick did after it had returned, as far as it was seen by now; immutable.

    Each effect, call and finished step is reported once. steps: those that were given up and have ended since.
    """

    run: str
    tick: int
    effects: tuple[ObservedEffect, ...] = ()
    calls: tuple[TapeEntry, ...] = ()
    steps: Mapping[str, StepObservation] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON document."""
        return {
            "run": self.run,
            "tick": self.tick,
            "effects": [effect.to_json() for effect in self.effects],
            "calls": [entry.to_json() for entry in self.calls],
            "steps": {name: step.to_json() for name, step in self.steps.items()},
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Late:
        """The report that `to_json` wrote."""
        return cls(
            run=document["run"],
            tick=document["tick"],
            effects=tuple(ObservedEffect.from_json(effect) for effect in document["effects"]),
            calls=tuple(TapeEntry.from_json(entry) for entry in document["calls"]),
            steps={name: StepObservation.from_json(step) for name, step in document["steps"].items()},
        )


@dataclass(frozen=True, kw_only=True)
class RoundTrip:
    """Whether the state survives `write_state` and `read_state`; immutable. `reason` is None where it does."""

    holds: bool
    reason: str | None
    state: Json
    read_back: Json
