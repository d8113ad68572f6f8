"""Evidence as counts: all that a verdict is computed from, and nothing else. It is stored with each verdict."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


def _check(counts: Any, n: int, *parts: int) -> None:
    """Counts that contradict each other would give bounds of nothing: they are refused. Raises ValueError."""
    numbers = [value for name in counts.__slots__ if isinstance(value := getattr(counts, name), int)]
    if min(numbers) < 0 or max(parts) > n:
        raise ValueError(f"these counts contradict each other: {counts}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """How often something was bad, of how many; immutable.

    n: ticks that can be told. bad: of these, those that count against the candidate. hidden: of these, those that an
    ignore rule hides and that are therefore not in `bad`. unverified: of these, those that nothing could confirm, not
    in `bad` either. unknown: ticks that were started and whose answer is not known, in none of the others.
    not_applied: ticks on which a step did not apply in either system, in none of the others.
    """

    n: int = 0
    bad: int = 0
    hidden: int = 0
    unverified: int = 0
    unknown: int = 0
    not_applied: int = 0

    def __post_init__(self) -> None:
        _check(self, self.n, self.bad + self.hidden + self.unverified)

    def __add__(self, other: Tally) -> Tally:
        """Both counted together."""
        return Tally(
            n=self.n + other.n, bad=self.bad + other.bad, hidden=self.hidden + other.hidden,
            unverified=self.unverified + other.unverified, unknown=self.unknown + other.unknown,
            not_applied=self.not_applied + other.not_applied,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Pairs:
    """Ticks (or trials) on which both systems can be told; immutable.

    new_only: bad in the new system alone; old_only: in the old one alone. unknown: started, and not known.
    """

    n: int = 0
    new_only: int = 0
    old_only: int = 0
    unknown: int = 0

    def __post_init__(self) -> None:
        _check(self, self.n, self.new_only + self.old_only)

    def __add__(self, other: Pairs) -> Pairs:
        """Both counted together."""
        return Pairs(
            n=self.n + other.n, new_only=self.new_only + other.new_only, old_only=self.old_only + other.old_only,
            unknown=self.unknown + other.unknown,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantile:
    """Bounds of a quantile of tick durations in milliseconds, each wrong with probability alpha/2 at most; immutable.
    None: unbounded."""

    p: float
    new_upper_ms: float | None
    old_lower_ms: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultTrials:
    """Drills of one kind of fault; immutable. One whose end is not known is counted as not recovered.

    late: recovered, but not within the policy's time. lost, doubled: trials of the candidate that lost or doubled an
    effect. against_old: recovered or not, in pairs with the old system.
    """

    n: int = 0
    not_recovered: int = 0
    late: int = 0
    lost: int = 0
    doubled: int = 0
    against_old: Pairs = field(default_factory=Pairs)

    def __post_init__(self) -> None:
        _check(self, self.n, self.not_recovered + self.late, self.lost, self.doubled)


@dataclass(frozen=True, kw_only=True, slots=True)
class Noise:
    """Ticks on which the old system ran twice; immutable. plus: the new system differs and the old one agrees with
    itself; minus: the other way round. old_differs: ticks on which the old one differs from itself."""

    n: int = 0
    plus: int = 0
    minus: int = 0
    old_differs: int = 0

    def __post_init__(self) -> None:
        _check(self, self.n, self.plus + self.minus, self.old_differs)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bursts:
    """How bad ticks came; immutable. longest_streak: most in a row. episodes: runs of them, near ones joined."""

    longest_streak: int = 0
    episodes: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Bare:
    """What would be counted if there were no rules; immutable. vetoes: what of that would bar READY."""

    whole: Tally
    steps: Mapping[str, Tally]
    vetoes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Earlier:
    """What earlier runs of the same version counted; immutable. runs: how many there were; same_rules: of these,
    those with the same rules. whole, steps: of the latter; failures: of all; deadline: of those with the same
    interval.
    """

    runs: int
    same_rules: int
    whole: Tally = field(default_factory=Tally)
    steps: Mapping[str, Tally] = field(default_factory=dict)
    failures: Pairs = field(default_factory=Pairs)
    deadline: Tally = field(default_factory=Tally)


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """The counts behind a verdict; immutable.

    behaviour_key, judgement_key: what it is evidence of. time_scale, interval_s (real seconds from tick to tick).
    hours: of wall clock that compared ticks span, at scale 1 (0 for a scaled run). started, compared: ticks.
    status: of the run. whole, steps: mismatches of results, effects and state. failures: ticks that failed, timed out
    or were lost. slower_blocks: mean share of slower ticks in a complete block -> blocks. tail, far_tail, deadline:
    slower ticks. strata: kind of tick -> compared ticks. faults: kind of fault -> its drills; a kind that can be
    drilled and was not is there without any, so that its absence shows. unobserved: doors that
    the control used and no adapter watches. vetoes: facts that bar READY, each a sentence. bare: what would be
    counted without rules, None if none hid anything. earlier: what earlier runs of the version counted, None if there
    were none; in none of the other counts.
    """

    behaviour_key: str
    judgement_key: str
    status: str
    time_scale: float
    interval_s: float
    hours: float
    started: int
    compared: int
    whole: Tally = field(default_factory=Tally)
    steps: Mapping[str, Tally] = field(default_factory=dict)
    failures: Pairs = field(default_factory=Pairs)
    slower_blocks: Mapping[float, int] = field(default_factory=dict)
    tail: Tally = field(default_factory=Tally)
    far_tail: Tally = field(default_factory=Tally)
    deadline: Tally = field(default_factory=Tally)
    quantiles: tuple[Quantile, ...] = ()
    faults: Mapping[str, FaultTrials] = field(default_factory=dict)
    noise: Mapping[str, Noise] = field(default_factory=dict)
    strata: Mapping[str, int] = field(default_factory=dict)
    bursts: Bursts = field(default_factory=Bursts)
    unobserved: tuple[str, ...] = ()
    vetoes: tuple[str, ...] = ()
    bare: Bare | None = None
    earlier: Earlier | None = None

    def to_json(self) -> dict[str, Any]:
        """The evidence as a JSON document that `evidence_from_json` reads."""
        document = dataclasses.asdict(self)
        # Keys of JSON objects are texts; shares are written so that they come back exactly.
        document["slower_blocks"] = [[mean, blocks] for mean, blocks in sorted(self.slower_blocks.items())]
        document["vetoes"], document["unobserved"] = list(self.vetoes), list(self.unobserved)
        document["quantiles"] = [dataclasses.asdict(quantile) for quantile in self.quantiles]
        if self.bare is not None:
            document["bare"]["vetoes"] = list(self.bare.vetoes)
        return document


def evidence_from_json(document: Mapping[str, Any]) -> Evidence:
    """The evidence in a document of `Evidence.to_json`. Raises TypeError or KeyError for another form, ValueError for
    counts that contradict each other."""
    plain = dict(document)
    for name in ("whole", "tail", "far_tail", "deadline"):
        plain[name] = Tally(**plain[name])
    plain["failures"] = Pairs(**plain["failures"])
    plain["bursts"] = Bursts(**plain["bursts"])
    plain["steps"] = {step: Tally(**tally) for step, tally in plain["steps"].items()}
    plain["noise"] = {step: Noise(**noise) for step, noise in plain["noise"].items()}
    plain["faults"] = {
        kind: FaultTrials(**{**trials, "against_old": Pairs(**trials["against_old"])})
        for kind, trials in plain["faults"].items()
    }
    plain["slower_blocks"] = {float(mean): int(blocks) for mean, blocks in plain["slower_blocks"]}
    plain["quantiles"] = tuple(Quantile(**quantile) for quantile in plain["quantiles"])
    plain["vetoes"], plain["unobserved"] = tuple(plain["vetoes"]), tuple(plain["unobserved"])
    bare = plain.get("bare")
    if bare is not None:
        plain["bare"] = Bare(
            whole=Tally(**bare["whole"]), steps={step: Tally(**tally) for step, tally in bare["steps"].items()},
            vetoes=tuple(bare["vetoes"]),
        )  # fmt: skip
    earlier = plain.get("earlier")
    if earlier is not None:
        plain["earlier"] = Earlier(
            runs=earlier["runs"], same_rules=earlier["same_rules"], whole=Tally(**earlier["whole"]),
            failures=Pairs(**earlier["failures"]),
            deadline=Tally(**earlier["deadline"]),
            steps={step: Tally(**tally) for step, tally in earlier["steps"].items()},
        )  # fmt: skip
    return Evidence(**plain)
