"""The plan of a run: what was asked for, fixed when it begins."""

from __future__ import annotations

import datetime as dt
import random
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from tickover.draws import seed_of
from tickover.errors import ConfigurationError
from tickover.execution import System


class Mode(StrEnum):
    """How the two systems are run."""

    RECORD = "record"  # the control first, untouched; the candidate follows from the tape
    PAIRED = "paired"  # both on copies, in random order, on one tape


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPlan:
    """What a run is to do; immutable.

    ticks: how many; None for a run that goes on for as long as its loop does (`serve --shadow`). every_s: interval in
    seconds at scale 1; 0 runs them back to back. seed: orders paired ticks. on_miss: what a candidate's call does
    that is on no tape. home: the old system's own home; None makes a fresh one. noise: share of ticks on which the
    old system runs a second time. loop: the run of the loop beside which it runs, None for a run of its own.
    """

    run: str
    workload: str
    ticks: int | None
    every_s: float
    time_scale: float
    seed: int
    mode: Mode
    candidate: System
    on_miss: str = "live"
    home: str | None = None
    noise: float = 0.0
    loop: str | None = None

    def __post_init__(self) -> None:
        if self.ticks is not None and self.ticks < 1:
            raise ConfigurationError(f"a run needs at least one tick, not {self.ticks}")
        if not self.time_scale > 0:
            raise ConfigurationError(f"the time scale must be above 0, not {self.time_scale}")
        if not 0 <= self.noise <= 1:
            raise ConfigurationError(f"the share of noise ticks must lie between 0 % and 100 %, not {self.noise:.0%}")
        if self.every_s < 0:
            raise ConfigurationError(f"the interval must not be negative, and is {self.every_s} s")

    @property
    def count(self) -> int:
        """How many ticks. Raises ConfigurationError for a run without an end of its own."""
        if self.ticks is None:
            raise ConfigurationError(f"run {self.run} has no end of its own: it goes on with `{self.goes_on_with}`")
        return self.ticks

    @property
    def goes_on_with(self) -> str:
        """The command that goes on with the run where it was stopped."""
        if self.ticks is None:
            return f"tickover serve --shadow --run {self.loop}"
        return f"tickover shadow --resume {self.run}"

    @property
    def control(self) -> System:
        """The system whose answer counts."""
        return System.ASYNC if self.candidate is System.LEGACY else System.LEGACY

    @property
    def interval_s(self) -> float:
        """Seconds between two ticks, time scale applied."""
        return self.every_s * self.time_scale

    def first_of(self, tick: int) -> System:
        """Which system begins this tick: the control in record mode, drawn by seed and tick in paired mode."""
        if self.mode is Mode.RECORD or random.Random(seed_of(self.seed, tick, "order")).random() < 0.5:
            return self.control
        return self.candidate

    def to_json(self) -> dict[str, Any]:
        """The plan as a JSON document."""
        return {**asdict(self), "mode": self.mode.value, "candidate": self.candidate.value}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> RunPlan:
        """The plan that `to_json` wrote."""
        return cls(**{**document, "mode": Mode(document["mode"]), "candidate": System(document["candidate"])})


def new_run_name(now: dt.datetime) -> str:
    """A name for a run: when it began, and four letters that keep two of one second apart."""
    return f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
