"""What a history can break, as values that name the culprit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Violation:
    """A promise of the engine that a history breaks; immutable. `str` says which one, on what, and by whom."""

    run: str
    tick: int

    @property
    def where(self) -> str:
        """The tick, for people."""
        return f"tick {self.tick} of run {self.run}"


@dataclass(frozen=True, kw_only=True, slots=True)
class TickMissing(Violation):
    """A tick that was due was never begun."""

    def __str__(self) -> str:
        return f"{self.where} was never begun"


@dataclass(frozen=True, kw_only=True, slots=True)
class TickStuck(Violation):
    """A tick was begun and is not over. standing: what it waits for."""

    standing: str

    def __str__(self) -> str:
        return f"{self.where} is stuck: {self.standing}"


@dataclass(frozen=True, kw_only=True, slots=True)
class TickTwice(Violation):
    """A tick was done more than once. what: the deed. times: how often."""

    what: str
    times: int

    def __str__(self) -> str:
        return f"{self.where} was {self.what} {self.times} times"


@dataclass(frozen=True, kw_only=True, slots=True)
class TickUndone(Violation):
    """A tick is over, with an outcome that it must not have. reason: the error, where there is one."""

    outcome: str
    reason: str | None = None

    def __str__(self) -> str:
        return f"{self.where} ended as {self.outcome}" + (f": {self.reason}" if self.reason else "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Backwards(Violation):
    """What was final changed: a checkpoint, an ended step, a state, an adopted tick. what: it. commit: who did it."""

    what: str
    commit: int

    def __str__(self) -> str:
        return f"{self.where} went backwards: {self.what} in commit {self.commit}"


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenApart(Violation):
    """What belongs into one transaction was committed in two. what: the row, and what it lacks beside it."""

    what: str
    commit: int

    def __str__(self) -> str:
        return f"{self.where}: {self.what} in commit {self.commit}"


@dataclass(frozen=True, kw_only=True, slots=True)
class EffectLost(Violation):
    """An effect of a tick that counts never got where it had to. effect: its key. place: where it is missing."""

    effect: str
    place: str

    def __str__(self) -> str:
        return f"{self.where} lost effect {self.effect}: it is missing {self.place}"


@dataclass(frozen=True, kw_only=True, slots=True)
class EffectDoubled(Violation):
    """An effect took place that no tick that counts declared, or in two ways. effect: its key. what: the second."""

    effect: str
    what: str

    def __str__(self) -> str:
        return f"{self.where} doubled effect {self.effect}: {self.what}"


@dataclass(frozen=True, kw_only=True, slots=True)
class StaleCommit(Violation):
    """Somebody committed who had been fenced. fence: the token or epoch that was in force. what: what was done."""

    what: str
    fence: str
    commit: int

    def __str__(self) -> str:
        return f"{self.where}: commit {self.commit} {self.what}, and was fenced by {self.fence}"


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnerConflict(Violation):
    """A tick has two owners, or none, or one that was not in charge. what: who did what."""

    what: str

    def __str__(self) -> str:
        return f"{self.where} has not exactly one owner: {self.what}"


@dataclass(frozen=True, kw_only=True, slots=True)
class StateBroken(Violation):
    """A tick began with another state than the one before it had left. owner: the system that began it."""

    owner: str
    before: str
    began_with: str

    def __str__(self) -> str:
        return (
            f"{self.where} began on {self.owner} with state {self.began_with[:12]}, "
            f"and the tick before had left {self.before[:12]}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class CommitLost(Violation):
    """Somebody was told that a tick is over, and the database does not have it so. told: what; found: what it has."""

    told: str
    found: str

    def __str__(self) -> str:
        return f"{self.where} was told to be {self.told}, and the database has it as {self.found}"
