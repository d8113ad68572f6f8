"""Evidence of a run: from what is stored to the counts that a verdict is computed from."""

from __future__ import annotations

import datetime as dt
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sqlalchemy import func, select

from reports import text
from reports.aggregates import Aggregates, Episodes, Group, Hour, Slower, snapshot
from reports.counting import failure_pairs, step_tallies, whole_tally
from reports.earlier import EarlierCounts, read_earlier, tally_earlier
from reports.faults import fault_counts, fault_trials
from reports.lifting import damage, lift, ticks_by_rule
from reports.models import TickEvidence
from reports.policy import Policy
from reports.statistics import quantile_ranks
from reports.tally import Bare, Bursts, Evidence, Noise, Quantile, Tally
from shadow.compare import Kind
from shadow.drill_store import KindCounts
from shadow.noise_store import noise_counts
from shadow.observation import Graph
from shadow.signature import Finding, findings
from shadow.store import RunRecord, Store

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
    """Where a run stands; immutable. status: as of `Store.status`. missing: ticks that were started and have no
    comparison, though nothing works on them."""

    status: str
    missing: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """All that is counted of a run for a report, of one instant; immutable. control, candidate: rank of the sorted
    durations -> milliseconds. ratios: at the shares of QUANTILES. rules: as `ticks_by_rule` has them."""

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
    earlier: EarlierCounts
    faults: tuple[KindCounts, ...] = ()

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
        noise = pool.submit(noise_counts, store.engine, record.run)
        earlier = pool.submit(read_earlier, store, record, name)
        faults = pool.submit(fault_counts, store, record, policy)
        episodes = pool.submit(counted.episodes, BAD, EPISODE_GAP)
        n = sum(group.count for group in groups.result())
        ranks = sorted(_ranks(n, policy.alpha))
        sides = [pool.submit(counted.ordered, side, ranks, n) for side in ("control", "candidate")]
        control, candidate = (dict(zip(ranks, side.result(), strict=True)) for side in sides)
        return Counts(
            groups=tuple(groups.result()), found=findings(sightings.result()), scheduled=scheduled.result()[0],
            overran=scheduled.result()[1], slower=slower.result(), blocks=blocks.result(), episodes=episodes.result(),
            hours=tuple(hours.result()), control=control, candidate=candidate, ratios=tuple(ratios.result()),
            rules=ticks_by_rule(groups.result()), noise=noise.result(), earlier=earlier.result(),
            faults=faults.result(),
        )  # fmt: skip


def run_state(store: Store, record: RunRecord, counts: Counts) -> RunState:
    """Where a run stands at this moment."""
    status = store.status(record)
    missing = 0 if status == "running" else max(0, counts.scheduled - counts.n)
    return RunState(status=status, missing=missing)


def newest_age(store: Store, run: str) -> dt.timedelta | None:
    """How old the newest comparison of a run is; None if it has none."""
    query = select(func.max(TickEvidence.compared_at), func.clock_timestamp()).where(TickEvidence.run == run)
    with store.engine.connect() as connection:
        newest, now = connection.execute(query).one()
    return None if newest is None else now - newest


def gather(
    record: RunRecord, policy: Policy, state: RunState, counts: Counts, *, on: dt.date | None = None
) -> Evidence:
    """The evidence of a run under a policy. on: the day on which rules must hold, None for today: what a rule hid
    whose last day has passed counts again."""
    plan, graph = record.plan, record.graph
    expired = record.rules.expired(on or dt.datetime.now(dt.UTC).date())
    groups = lift(counts.groups, graph, expired)
    bare = lift(groups, graph)
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
        whole=whole_tally(groups, state.missing, bare),
        steps=step_tallies(groups, graph.order, state.missing, bare),
        failures=failure_pairs(groups, state.missing),
        slower_blocks=counts.blocks,
        tail=tail,
        far_tail=far_tail,
        deadline=deadline if plan.interval_s > 0 else Tally(),
        quantiles=_quantiles(counts, policy.alpha),
        strata=dict(sorted(strata.items())),
        faults=fault_trials(counts.faults),
        bursts=Bursts(longest_streak=counts.episodes.longest_streak, episodes=counts.episodes.count),
        # A run that kept nothing of what was watched has shown nothing about it.
        unobserved=tuple(record.surface["unobserved"] if record.surface else [NO_SURFACE]),
        vetoes=(*_vetoes(counts.found), *_hidden_vetoes(counts.groups, expired)),
        noise={
            step: Noise(n=n, plus=plus, minus=minus, old_differs=differs)
            for step, (n, plus, minus, differs) in counts.noise.items()
        },
        bare=_bare(groups, bare, graph, state.missing),
        earlier=tally_earlier(counts.earlier, record, expired),
    )


def _bare(groups: Sequence[Group], bare: Sequence[Group], graph: Graph, missing: int) -> Bare | None:
    """What would be counted if there were no rules; None if none hid anything."""
    if bare == groups:
        return None
    return Bare(
        whole=whole_tally(bare, missing), steps=step_tallies(bare, graph.order, missing),
        vetoes=tuple(_hidden_vetoes(groups)),
    )  # fmt: skip


def judgement_key(rules_key: str, policy: Policy) -> str:
    """The key of what evidence is judged by: the rules under which it was made, and the policy."""
    return hashlib.sha256(f"{rules_key}\n{policy.digest}".encode()).hexdigest()


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


def _hidden_vetoes(groups: Sequence[Group], rules: Sequence[str] | None = None) -> Iterable[str]:
    """Lost and doubled effects that these rules (None: any) hid."""
    for step, verb, count in damage(groups, rules):
        whose = "a rule that has expired" if rules is not None else "a rule"
        yield f"The new system {verb} effects of step {step} on {text.times(count, 'tick')}, which {whose} hid."


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
