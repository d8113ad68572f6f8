"""Curves and distributions of a run, read from the store for the page."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from reports import text
from reports.aggregates import Aggregates, snapshot
from reports.build import Built
from reports.counting import failure_pairs, step_tallies, up_to, whole_tally
from reports.criterion import Question, Status
from reports.details import BoundCurve, Details, Timeline
from reports.evidence import CONNECTIONS
from reports.lifting import lift
from reports.plots import Bar
from reports.policy import Policy
from reports.questions import questions
from reports.statistics import bound
from reports.tally import Evidence
from shadow.observation import TROUBLE, Observation
from shadow.store import Store
from tickover.execution import Purpose

# Points of a curve over the run, points of a distribution, bins of the ratio in a tenfold.
SPANS, SHARES, BINS_PER_DECADE = 48, 200, 40
# Curves on the page: the critical criteria that are counted tick by tick.
MOST_CURVES = 12


def details(store: Store, built: Built, policy: Policy) -> Details:
    """What the page shows beyond the report: read only for a page."""
    n = sum(group.count for group in built.groups)
    ranks = sorted({max(1, round((index + 0.5) / SHARES * n)) for index in range(SHARES)}) if n else []
    speed = built.report.speed
    with snapshot(store.engine) as name, ThreadPoolExecutor(CONNECTIONS) as pool:
        counted = Aggregates(store.engine, built.record.run, name)
        spans_found = pool.submit(counted.spans, SPANS)
        control, candidate = (pool.submit(counted.ordered, side, ranks, n) for side in ("control", "candidate"))
        bins = pool.submit(counted.ratio_histogram, BINS_PER_DECADE)
        telling = pool.submit(counted.telling_tick, speed.ratio["p50"]) if speed else None
        spans = spans_found.result()
        return Details(
            control_ms=control.result(),
            candidate_ms=candidate.result(),
            ratio_bins=bins.result(),
            ratio_limit=policy.speed.factor,
            ratio_over_time=[(span.last_tick, *span.ratios) for span in spans if span.ratios],  # type: ignore[misc]
            timeline=_timeline(store, built, telling.result() if telling else None),
            bounds=_bounds(counted, built, policy, [span.last_tick for span in spans]),
        )


def _bounds(counted: Aggregates, built: Built, policy: Policy, ends: list[int]) -> list[BoundCurve]:
    """Bounds as they would have been shown at the end of each stretch."""
    wanted = [c.name for c in built.verdict.criteria if c.critical and c.status is not Status.NO_DATA][:MOST_CURVES]
    curves: dict[str, list[tuple[int, float]]] = {name: [] for name in wanted}
    graph, expired = built.record.graph, built.record.rules.expired(built.report.made_at.date())
    for stretch in up_to(counted.groups_by_span(ends)):
        groups = lift(stretch, graph, expired)
        evidence = Evidence(
            behaviour_key="", judgement_key="", status="running", time_scale=1.0, interval_s=0.0, hours=0.0,
            started=0, compared=0, whole=whole_tally(groups), steps=step_tallies(groups, graph.order),
            failures=failure_pairs(groups),
        )  # fmt: skip
        for question in questions(evidence, policy):
            if question.name in curves and (n := sum(question.counts.values())):
                curves[question.name].append((round(n), _bound(question, policy.alpha)))
    return [BoundCurve(criterion=name, points=tuple(points)) for name, points in curves.items() if len(points) > 1]


def _bound(question: Question, alpha: float) -> float:
    return bound(question.counts, alpha, question.lo, question.hi, "below")


def _timeline(store: Store, built: Built, tick: int | None) -> Timeline | None:
    if tick is None:
        return None
    seen = store.observations(built.record.run, tick)
    control, candidate = seen.get(Purpose.CONTROL), seen.get(Purpose.CANDIDATE)
    if control is None or candidate is None:
        return None
    order = built.record.graph.order
    found = Timeline(
        tick=tick,
        control_ms=control.duration_ms,
        candidate_ms=candidate.duration_ms,
        control=_bars(control, order),
        candidate=_bars(candidate, order),
    )
    return found if found.control and found.candidate else None


def _bars(seen: Observation, order: Sequence[str]) -> tuple[Bar, ...]:
    steps = {name: seen.steps[name] for name in order if name in seen.steps}
    return tuple(
        Bar(
            step=text.plain(name, 40), begins_ms=step.started_ms, lasts_ms=max(0.0, step.duration_ms),
            trouble=step.status in TROUBLE,
        )
        for name, step in steps.items()
        if step.started_ms is not None and step.duration_ms is not None
    )  # fmt: skip
