"""The report as one value, from which terminal, JSON, Markdown and HTML are all made. Nothing here is formatted for
one of them; sentences are whole and fit all."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reports.criterion import Criterion
from reports.gates import Gate
from reports.verdict import Dependence, Needed, QuantileRatio

# Number of the JSON document's form; it grows when a field changes its meaning or goes.
SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFacts:
    """The run that is reported; immutable. status: running, done, interrupted, abandoned (its runner is gone) or
    paused (its loop stands still)."""

    run: str
    workload: str
    status: str
    mode: str
    control: str
    candidate: str
    time_scale: float
    interval_s: float
    planned: int
    scheduled: int
    compared: int
    missing: int
    overran: int
    covered_s: float
    started_at: dt.datetime
    finished_at: dt.datetime | None
    behaviour_key: str
    judgement_key: str

    @property
    def is_scaled(self) -> bool:
        """Whether the run was not in real time."""
        return self.time_scale != 1


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyFacts:
    """The policy that the evidence was judged under; immutable. source: built in, or the file it was read from."""

    name: str
    source: str
    digest: str
    alpha: float
    beta: float


@dataclass(frozen=True, kw_only=True, slots=True)
class VerdictFacts:
    """The verdict; immutable. headline: one sentence. reasons: why it is not READY, each a sentence, worst first.
    latched_at: when NOT_READY was first given for these keys, if this verdict rests on that. without_rules: what it
    would be if nothing were tolerated, where rules hid something. number: under which it is stored."""

    status: str
    headline: str
    reasons: tuple[str, ...]
    vetoes: tuple[str, ...] = ()
    latched_at: dt.datetime | None = None
    without_rules: str | None = None
    number: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ExampleFacts:
    """One difference of one tick, both sides; immutable. control and candidate are text that is safe to show."""

    tick: int
    step: str
    area: str
    path: str
    nature: str
    control: str
    candidate: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FindingFacts:
    """Mismatches of one cause; immutable. title: where and how they differ; sentence: also how often and when."""

    name: str
    step: str
    title: str
    sentence: str
    count: int
    first_tick: int
    last_tick: int
    kinds: tuple[str, ...]
    examples: tuple[ExampleFacts, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleFacts:
    """A rule and what it hid; immutable. ticks: on which it hid something; steps: the same by step. expires: its last
    day, None for one that Tickover made itself. expired: what it hid counts again."""

    name: str
    reason: str
    owner: str
    expires: str | None
    expired: bool
    ticks: int
    steps: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeedFacts:
    """How long ticks took, in milliseconds (infinite: never ended well); immutable. ratio_*: of pairs."""

    control_ms: Mapping[str, float]
    candidate_ms: Mapping[str, float]
    ratio: Mapping[str, float]
    sentence: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultFacts:
    """What happened under one kind of fault; immutable. Seconds are medians of the trials that recovered."""

    kind: str
    trials: int
    control_recovered: int | None
    candidate_recovered: int
    control_s: float | None
    candidate_s: float | None
    lost: int
    duplicated: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StratumFacts:
    """The ticks of one stratum, with a bound of their own; immutable."""

    stratum: str
    n: int
    bad: int
    bound: float


@dataclass(frozen=True, kw_only=True, slots=True)
class BurstFacts:
    """Where what counts against the candidate fell; immutable. largest: episodes as (first tick, last tick, ticks).
    worst_hours: (begin, against, ticks)."""

    largest: tuple[tuple[int, int, int], ...]
    worst_hours: tuple[tuple[dt.datetime, int, int], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SurfaceFacts:
    """What was observed, and what was not; immutable. not_compared: (reason, ticks). not_applied: (step, ticks)."""

    observed: tuple[str, ...]
    unobserved: tuple[str, ...]
    not_compared: tuple[tuple[str, int], ...]
    not_applied: tuple[tuple[str, int], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Everything that a report says; immutable."""

    made_at: dt.datetime
    made_by: str
    run: RunFacts
    policy: PolicyFacts
    verdict: VerdictFacts
    needed: Needed
    needed_sentence: str
    criteria: tuple[Criterion, ...]
    gates: tuple[Gate, ...]
    kinds: Mapping[str, int]
    findings: tuple[FindingFacts, ...]
    findings_total: int
    speed: SpeedFacts | None
    faults: tuple[FaultFacts, ...]
    strata: tuple[StratumFacts, ...]
    dependence: Dependence
    bursts: BurstFacts
    quantiles: tuple[QuantileRatio, ...]
    tolerated: Mapping[str, int]
    rules: tuple[RuleFacts, ...]
    surface: SurfaceFacts
    notes: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON document of the published schema; what is infinite or unknown is null."""
        found = _json(dataclasses.asdict(self))
        return {"schema": SCHEMA_VERSION, **found}


def _json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _json(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(item) for item in value]
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
