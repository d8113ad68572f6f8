"""Evidence of a run: from what is stored to the counts that a verdict is computed from."""

from __future__ import annotations

import datetime as dt
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from reports.aggregates import Aggregates, Episodes, Group, Hour, Slower, snapshot
from reports.policy import Policy
from reports.statistics import quantile_ranks
from reports.tally import Bursts, Evidence, Noise, Pairs, Quantile, Tally
from shadow.compare import Kind
from shadow.noise_store import noise_counts
from shadow.signature import Finding, findings
from shadow.store import RunRecord, Store

# Kinds under which results, effects and state of both systems can be told.
_TOLD = frozenset({Kind.MATCH, Kind.TOLERATED, Kind.IMPROVED, Kind.MISMATCH, Kind.UNVERIFIED})
# Kinds that count against the candidate, wherever episodes and bad hours are told.
BAD = (Kind.MISMATCH.value, Kind.CANDIDATE_FAILED.value)
# Bad ticks at most this far apart are one episode.
EPISODE_GAP = 5
# A difference in time below this share of the interval is no slowness: jobs of a few milliseconds vary by more.
EPS_SHARE = 0.01
QUANTILES = (0.5, 0.95, 0.99)
# What stands for the doors of a run of which none are known.
NO_SURFACE = "(the run kept nothing about it)"
# Connections that count at the same time.
CONNECTIONS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class RunState:
    """Where a run stands; immutable. status: running, done, interrupted, or abandoned: its runner is gone. missing:
    ticks that were started and have no comparison, though nothing works on them."""

    status: str
    missing: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """All that is counted of a run for a report, of one instant; immutable. control, candidate: rank of the sorted
    durations -> milliseconds. ratios: at the shares of QUANTILES."""

    groups: tuple[Group, ...]
    found: tuple[Finding, ...]
    scheduled: int
    overran: int
    slower: Slower
    blocks: Mapping[float, int]
    episodes: Episodes
    hours: tuple[Hour, ...]
    control: Mapping[int, float]
    candidate: Mapping[int, float]
    ratios: tuple[float, ...]
    rules: Mapping[str, int]
    noise: Mapping[str, tuple[int, int, int, int]]

    @property
    def n(self) -> int:
        """Ticks that have a comparison."""
        return sum(group.count for group in self.groups)


def read_counts(store: Store, record: RunRecord, policy: Policy) -> Counts:
    """The counts of a run, whose limits of time are the policy's. Queries run side by side on several connections."""
    plan = record.plan
    eps_ms, interval_ms = EPS_SHARE * plan.interval_s * 1000, plan.interval_s * 1000
    limits = [(policy.tail.factor, eps_ms), (policy.far_tail.factor, eps_ms), (0.0, interval_ms)]
    speed = policy.speed
    with snapshot(store.engine) as name, ThreadPoolExecutor(CONNECTIONS) as pool:
        counted = Aggregates(store.engine, record.run, name)
        groups = pool.submit(counted.groups)
        hours = pool.submit(counted.hours, BAD, plan.interval_s)
        ratios = pool.submit(counted.ratios, QUANTILES)
        blocks = pool.submit(counted.block_means, speed.block, speed.factor, eps_ms)
        slower = pool.submit(counted.exceeding, limits)
        scheduled = pool.submit(store.scheduled, record.run)
        sightings = pool.submit(store.sightings, record.run)
        rules = pool.submit(counted.rules)
        noise = pool.submit(noise_counts, store.engine, record.run)
        episodes = pool.submit(counted.episodes, BAD, EPISODE_GAP)
        n = sum(group.count for group in groups.result())
        ranks = sorted(_ranks(n, policy.alpha))
        sides = [pool.submit(counted.ordered, side, ranks, n) for side in ("control", "candidate")]
        control, candidate = (dict(zip(ranks, side.result(), strict=True)) for side in sides)
        return Counts(
            groups=tuple(groups.result()), found=findings(sightings.result()), scheduled=scheduled.result()[0],
            overran=scheduled.result()[1], slower=slower.result(), blocks=blocks.result(), episodes=episodes.result(),
            hours=tuple(hours.result()), control=control, candidate=candidate, ratios=tuple(ratios.result()),
            rules=rules.result(), noise=noise.result(),
        )  # fmt: skip


def run_state(store: Store, record: RunRecord, counts: Counts) -> RunState:
    """Where a run stands at this moment."""
    status = record.status
    if status == "running" and not store.is_held(record.run):
        # It may have ended between the two looks.
        status = store.run(record.run).status
        if status == "running":
            status = "abandoned"
    missing = 0 if status == "running" else max(0, counts.scheduled - counts.n)
    return RunState(status=status, missing=missing)


def gather(record: RunRecord, policy: Policy, state: RunState, counts: Counts) -> Evidence:
    """The evidence of a run under a policy."""
    plan, groups = record.plan, counts.groups
    # A tick whose candidate is not known: it was started, and is taken for the worst.
    unknown = state.missing + sum(group.count for group in groups if group.candidate_outcome is None)
    tail, far_tail, deadline = (Tally(n=counts.slower.n, bad=bad, unknown=unknown) for bad in counts.slower.exceed)
    strata: dict[str, int] = {}
    for group in groups:
        if group.stratum is not None and group.kind != Kind.NOT_COMPARED:
            strata[group.stratum] = strata.get(group.stratum, 0) + group.count
    return Evidence(
        behaviour_key=record.behaviour_key,
        judgement_key=judgement_key(record.judgement_key, policy),
        status=state.status,
        time_scale=plan.time_scale,
        interval_s=plan.interval_s,
        hours=sum(hour.covered_s for hour in counts.hours) / 3600 if plan.time_scale == 1 else 0.0,
        started=counts.n + state.missing,
        compared=sum(group.count for group in groups if group.kind != Kind.NOT_COMPARED),
        whole=_without_expired(whole_tally(groups, state.missing), record, counts),
        steps=step_tallies(groups, record.graph.order, state.missing),
        failures=failure_pairs(groups, state.missing),
        slower_blocks=counts.blocks,
        tail=tail,
        far_tail=far_tail,
        deadline=deadline if plan.interval_s > 0 else Tally(),
        quantiles=_quantiles(counts, policy.alpha),
        strata=dict(sorted(strata.items())),
        bursts=Bursts(longest_streak=counts.episodes.longest_streak, episodes=counts.episodes.count),
        # A run that kept nothing of what was watched has shown nothing about it.
        unobserved=tuple(record.surface["unobserved"] if record.surface else [NO_SURFACE]),
        vetoes=tuple(_vetoes(counts.found)),
        noise={
            step: Noise(n=n, plus=plus, minus=minus, old_differs=differs)
            for step, (n, plus, minus, differs) in counts.noise.items()
        },
    )


def _without_expired(whole: Tally, record: RunRecord, counts: Counts) -> Tally:
    """What rules hid whose day has passed counts again; where one tick was hidden by several, as the worst case."""
    expired = record.rules.expired(dt.datetime.now(dt.UTC).date())
    again = min(whole.hidden, sum(counts.rules.get(name, 0) for name in expired))
    return replace(whole, bad=whole.bad + again, hidden=whole.hidden - again)


def judgement_key(rules_key: str, policy: Policy) -> str:
    """The key of what evidence is judged by: the rules under which it was made, and the policy."""
    return hashlib.sha256(f"{rules_key}\n{policy.digest}".encode()).hexdigest()


def whole_tally(groups: Iterable[Group], missing: int = 0) -> Tally:
    """Mismatches of whole ticks. A tick on which the candidate failed has no answer to compare: it is a failure."""
    told, of = 0, dict.fromkeys(Kind, 0)
    for group in groups:
        of[Kind(group.kind)] += group.count
        told += group.count if group.kind in _TOLD else 0
    return Tally(
        n=told, bad=of[Kind.MISMATCH], hidden=of[Kind.TOLERATED], unverified=of[Kind.UNVERIFIED],
        unknown=of[Kind.NOT_COMPARED] + missing,
    )  # fmt: skip


def step_tallies(groups: Iterable[Group], order: Sequence[str], missing: int = 0) -> dict[str, Tally]:
    """Mismatches by step, steps in graph order. Only ticks count on which both systems reached the step and all that
    it depends on agreed; where the control gave up and nothing could confirm it, the step is unverified."""
    # Letters stand in the order of the names' bytes.
    place = {step: index for index, step in enumerate(sorted(order, key=lambda name: name.encode()))}
    n, bad, unverified = (dict.fromkeys(order, 0) for _ in range(3))
    unknown = missing
    for group in groups:
        if group.kind == Kind.NOT_COMPARED:
            unknown += group.count
        if group.kind not in _TOLD or len(group.steps) != len(place):
            continue
        for step, index in place.items():
            letter = group.steps[index]
            if letter in "ED":
                n[step] += group.count
                if group.kind == Kind.UNVERIFIED:
                    unverified[step] += group.count
                elif letter == "D":
                    bad[step] += group.count
    return {
        step: Tally(n=n[step], bad=bad[step], unverified=unverified[step], unknown=unknown if n[step] else 0)
        for step in order
    }


def failure_pairs(groups: Iterable[Group], missing: int = 0) -> Pairs:
    """Ticks that one of the two did not bring to a good end. Steps given up on the way are compared as steps."""
    n = new_only = old_only = 0
    unknown = missing
    for group in groups:
        if group.control_outcome is None or group.candidate_outcome is None:
            unknown += group.count
            continue
        n += group.count
        old, new = group.control_outcome != "done", group.candidate_outcome != "done"
        new_only += group.count if new and not old else 0
        old_only += group.count if old and not new else 0
    return Pairs(n=n, new_only=new_only, old_only=old_only, unknown=unknown)


def middle_ranks(n: int) -> list[int]:
    """The ranks of QUANTILES among n sorted values."""
    return [max(1, math.ceil(p * n)) for p in QUANTILES] if n else []


def _ranks(n: int, alpha: float) -> set[int]:
    bounds = [rank for p in QUANTILES for rank in quantile_ranks(n, p, alpha / 2)] if n else []
    return {rank for rank in (*bounds, *middle_ranks(n)) if 1 <= rank <= n}


def _quantiles(counts: Counts, alpha: float) -> tuple[Quantile, ...]:
    found: list[Quantile] = []
    for p in QUANTILES if counts.n else ():
        low, high = quantile_ranks(counts.n, p, alpha / 2)
        new, old = counts.candidate.get(high, math.inf), counts.control.get(low, math.inf)
        found.append(
            Quantile(
                p=p,
                new_upper_ms=new if math.isfinite(new) else None,
                old_lower_ms=old if math.isfinite(old) else None,
            )
        )
    return tuple(found)


def _vetoes(found: Sequence[Finding]) -> Iterable[str]:
    """Facts that bar READY whatever the counts say: an effect lost or doubled though nothing else differs."""
    for finding in found:
        natures = {nature for area, _, nature in finding.atoms if area == "effects"}
        only_effects = all(area == "effects" for area, _, _ in finding.atoms)
        if only_effects and natures and natures <= {"missing", "duplicated"}:
            what = (
                "loses" if natures == {"missing"} else "doubles" if natures == {"duplicated"} else "loses or doubles"
            )
            ticks = "tick" if finding.count == 1 else "ticks"
            yield (
                f"The new system {what} effects of step {finding.step} on {finding.count} {ticks} though its results "
                f"agree (finding {finding.name})."
            )


def up_to(groups: Sequence[Sequence[Group]]) -> list[list[Group]]:
    """Groups per stretch of a run, added up: all ticks until the end of each stretch."""
    total: dict[Group, int] = {}
    found: list[list[Group]] = []
    for stretch in groups:
        for group in stretch:
            key = replace(group, count=0)
            total[key] = total.get(key, 0) + group.count
        found.append([replace(key, count=count) for key, count in total.items()])
    return found
