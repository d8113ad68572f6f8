"""Identity of executions: which run, tick, system, for what purpose, and which time round."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class System(StrEnum):
    """The two systems."""

    LEGACY = "legacy"
    ASYNC = "async"


class Purpose(StrEnum):
    """Why a system runs a tick."""

    CONTROL = "control"  # its answer counts
    CANDIDATE = "candidate"  # on trial, sandboxed
    NOISE = "noise"  # control a second time, on a copy
    REFERENCE = "reference"  # control again, from the tape, with its limits lifted
    BACKTEST = "backtest"  # candidate over a recorded run, on a virtual clock
    DRILL = "drill"  # on a copy, with faults


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class ExecutionKey:
    """The identity of one execution; immutable. `str(key)` is its `execution_id`.

    run: name of the run (no slash). tick: number, from 0. pass_: which time round, from 1.
    """

    run: str
    tick: int
    system: System
    purpose: Purpose
    pass_: int = 1

    def __str__(self) -> str:
        return f"{self.run}/{self.tick}/{self.system}/{self.purpose}/{self.pass_}"

    @classmethod
    def parse(cls, text: str) -> ExecutionKey:
        """The key of an `execution_id`. Raises ValueError for any other text."""
        run, tick, system, purpose, pass_ = text.split("/")
        return cls(run=run, tick=int(tick), system=System(system), purpose=Purpose(purpose), pass_=int(pass_))
