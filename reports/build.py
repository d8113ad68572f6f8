"""The report of a run, put together: evidence, verdict, findings, timings, and what was not observed."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from reports import text
from reports.aggregates import Group
from reports.evidence import BAD, Counts, RunState, gather, middle_ranks, read_counts, run_state
from reports.faults import fault_facts
from reports.lifting import hidden_by_rule, lift
from reports.model import (
    BurstFacts,
    ExampleFacts,
    FindingFacts,
    PolicyFacts,
    Report,
    RuleFacts,
    RunFacts,
    SpeedFacts,
    StratumFacts,
    SurfaceFacts,
    VerdictFacts,
)
from reports.needed import needed_sentence
from reports.policy import BUILT_IN, Policy
from reports.statistics import rate_upper
from reports.tally import Evidence
from reports.verdict import Decision, Verdict, judge
from reports.verdict_store import Latch, VerdictStore
from shadow.compare import Kind
from shadow.diff import generalise, show
from shadow.rules import Action
from shadow.signature import Finding
from shadow.store import RunRecord, Store
from tickover import __version__

# Findings that a report carries in full, with examples; `findings` lists the rest.
MOST_FINDINGS, MOST_EXAMPLES = 20, 3
_EXAMPLE_CHARS = 600
# Names of QUANTILES.
_SHARES = ("p50", "p95", "p99")
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """A report with what it was made from; immutable."""

    report: Report
    record: RunRecord
    groups: tuple[Group, ...]
    evidence: Evidence
    verdict: Verdict


def build(store: Store, name: str | None, policy: Policy, source: str, *, now: dt.datetime) -> Built:
    """The report of a run (None: the latest) under a policy; its verdict is stored. source: where the policy is from.

    Raises UnknownRun.
    """
    record = store.run(name)
    counts = read_counts(store, record, policy)
    groups, found, state = counts.groups, counts.found, run_state(store, record, counts)
    evidence = gather(record, policy, state, counts, on=now.date())
    verdict = judge(evidence, policy)
    verdicts = VerdictStore(store.engine)
    latch = verdicts.latch(evidence)
    number = verdicts.keep(record.run, evidence, policy, verdict)
    report = Report(
        made_at=now,
        made_by=__version__,
        run=_run_facts(record, state, counts, evidence),
        policy=PolicyFacts(
            name=policy.name,
            source="built in" if source in BUILT_IN else source,
            digest=policy.digest,
            alpha=policy.alpha,
            beta=policy.beta,
        ),
        verdict=_verdict_facts(verdict, latch, number),
        needed=verdict.needed,
        needed_sentence=needed_sentence(verdict, record, counts, latched=latch is not None),
        criteria=verdict.criteria,
        gates=verdict.gates,
        kinds={kind.value: sum(g.count for g in groups if g.kind == kind) for kind in Kind},
        findings=tuple(_finding(store, record, each) for each in found[:MOST_FINDINGS]),
        findings_total=len(found),
        speed=_speed(record, counts),
        faults=fault_facts(counts.faults),
        strata=_strata(lift(groups, record.graph, record.rules.expired(now.date())), policy),
        dependence=verdict.dependence,
        bursts=_bursts(counts),
        quantiles=verdict.quantiles,
        tolerated=dict(counts.rules),
        rules=tuple(_rules(record, counts, now.date())),
        surface=_surface(store, record, groups, state),
        notes=tuple(_notes(record, state, counts, evidence, verdicts.others(evidence), now)),
    )
    return Built(report=safe(report), record=record, groups=groups, evidence=evidence, verdict=verdict)


def _run_facts(record: RunRecord, state: RunState, counts: Counts, evidence: Evidence) -> RunFacts:
    plan = record.plan
    return RunFacts(
        run=record.run, workload=plan.workload, status=state.status, mode=plan.mode.value,
        control=plan.control.value, candidate=plan.candidate.value, time_scale=plan.time_scale,
        interval_s=plan.interval_s, planned=plan.ticks or counts.scheduled, scheduled=counts.scheduled,
        compared=evidence.compared, missing=state.missing, overran=counts.overran,
        covered_s=sum(hour.covered_s for hour in counts.hours),
        started_at=record.started_at, finished_at=record.finished_at, behaviour_key=evidence.behaviour_key,
        judgement_key=evidence.judgement_key,
    )  # fmt: skip


def _verdict_facts(verdict: Verdict, latch: Latch | None, number: int) -> VerdictFacts:
    status, headline, reasons = verdict.decision, verdict.headline, list(verdict.reasons)
    latched = latch is not None and status is not Decision.NOT_READY
    if latch is not None and latched:
        status = Decision.NOT_READY
        headline = "Do not switch: this version was found not ready before, and more of its ticks do not undo that."
        reasons = [
            f"Verdict {latch.number} of {latch.created_at:%Y-%m-%d %H:%M} UTC (run {latch.run}) was NOT_READY: "
            f"{latch.reasons[0] if latch.reasons else 'no reason was stored'}",
            *reasons,
        ]
    shown = [reason for reason in reasons if reason not in verdict.vetoes]
    return VerdictFacts(
        status=status.value, headline=headline, reasons=tuple(_sentence(reason) for reason in shown),
        vetoes=verdict.vetoes, latched_at=latch.created_at if latch is not None and latched else None,
        without_rules=None if verdict.without_rules is None else verdict.without_rules.value, number=number,
    )  # fmt: skip


def _sentence(reason: str) -> str:
    said = reason[:1].upper() + reason[1:]
    return said if said.endswith((".", "!", "?")) else f"{said}."


def _finding(store: Store, record: RunRecord, finding: Finding) -> FindingFacts:
    area, path, nature = finding.atoms[0]
    more = f" and {len(finding.atoms) - 1} more" if len(finding.atoms) > 1 else ""
    title = f"Step {finding.step}: {area} {path} ({nature}){more}"
    return FindingFacts(
        name=finding.name, step=finding.step, title=title,
        sentence=f"{title}, {text.times(finding.count, 'tick')}, {_ticks(finding)}", count=finding.count,
        first_tick=finding.first_tick, last_tick=finding.last_tick, kinds=finding.kinds,
        examples=tuple(_examples(store, record, finding)),
    )  # fmt: skip


def _ticks(finding: Finding) -> str:
    if finding.first_tick == finding.last_tick:
        return f"tick {finding.first_tick}"
    return f"ticks {finding.first_tick} to {finding.last_tick}"


def _examples(store: Store, record: RunRecord, finding: Finding) -> Sequence[ExampleFacts]:
    document = store.comparison(record.run, finding.first_tick)
    rank = {atom: index for index, atom in enumerate(finding.atoms)}
    differences = [found for found in (document or {}).get("differences", []) if found["step"] == finding.step]
    differences.sort(key=lambda found: rank.get(_atom(found), len(rank)))
    return [
        ExampleFacts(
            tick=finding.first_tick, step=found["step"], area=found["area"], nature=found["nature"],
            path=show(tuple(found["path"])),
            control=text.shown(found["control"], _EXAMPLE_CHARS),
            candidate=text.shown(found["candidate"], _EXAMPLE_CHARS),
        )
        for found in differences[:MOST_EXAMPLES]
    ]  # fmt: skip


def _atom(difference: Mapping[str, Any]) -> tuple[str, str, str]:
    return (difference["area"], generalise(tuple(difference["path"])), difference["nature"])


def _speed(record: RunRecord, counts: Counts) -> SpeedFacts | None:
    n, ratios, groups = counts.n, counts.ratios, counts.groups
    if not n or not ratios:
        return None
    ranks = middle_ranks(n)
    control, candidate = (
        {name: side[rank] for name, rank in zip(_SHARES, ranks, strict=True)}
        for side in (counts.control, counts.candidate)
    )
    median = ratios[0]
    if 0.97 <= median <= 1.03:
        said = f"Typically {record.plan.candidate.value} takes as long as {record.plan.control.value}"
    elif median >= 10:
        longer = text.fold(median)
        said = f"Typically {record.plan.candidate.value} takes {longer} the time of {record.plan.control.value}"
    elif median < 1:
        said = f"Typically {record.plan.candidate.value} takes {text.percent(1 - median, 0)} less time"
    else:
        said = f"Typically {record.plan.candidate.value} takes {text.percent(median - 1, 0)} more time"
    gave_up = {
        side: sum(group.count for group in groups if getattr(group, field))
        for side, field in (
            (record.plan.control.value, "control_gave_up"), (record.plan.candidate.value, "candidate_gave_up"),
        )
    }  # fmt: skip
    given = " and ".join(f"{side} on {text.grouped(count)}" for side, count in gave_up.items())
    return SpeedFacts(
        control_ms=control, candidate_ms=candidate, ratio=dict(zip(_SHARES, ratios, strict=True)),
        sentence=f"{said} (the median of {text.times(n, 'tick')}, tick by tick). Ticks with a step that failed or "
        f"was given up: {given}.",
    )  # fmt: skip


def _strata(groups: Sequence[Group], policy: Policy) -> tuple[StratumFacts, ...]:
    n: dict[str, int] = {}
    bad: dict[str, int] = {}
    for group in groups:
        if group.stratum is not None and group.kind != Kind.NOT_COMPARED:
            n[group.stratum] = n.get(group.stratum, 0) + group.count
            bad[group.stratum] = bad.get(group.stratum, 0) + (group.count if group.kind in BAD else 0)
    return tuple(
        StratumFacts(stratum=name, n=n[name], bad=bad[name], bound=rate_upper(bad[name], n[name], policy.alpha))
        for name in sorted(n, key=lambda name: (-n[name], name))[:50]
    )


def _bursts(counts: Counts) -> BurstFacts:
    hours = sorted((hour for hour in counts.hours if hour.bad), key=lambda hour: (-hour.bad, hour.begins))[:3]
    return BurstFacts(
        largest=tuple((e.first_tick, e.last_tick, e.count) for e in counts.episodes.largest),
        worst_hours=tuple((h.begins, h.bad, h.count) for h in hours),
    )


def _rules(record: RunRecord, counts: Counts, today: dt.date) -> Iterator[RuleFacts]:
    """The rules of the run that can hide something, and Tickover's own that did; what hid most first."""
    steps, expired = hidden_by_rule(counts.groups), record.rules.expired(today)
    known = {rule.name: rule for rule in record.rules.rules if rule.action is not Action.REDACT}
    for name in sorted({*counts.rules, *known}, key=lambda name: (-counts.rules.get(name, 0), name)):
        rule = known.get(name)
        yield RuleFacts(
            name=name, expired=name in expired, ticks=counts.rules.get(name, 0), steps=steps.get(name, {}),
            reason=rule.reason if rule else "the old system differs from itself there",
            owner=rule.owner if rule else "Tickover", expires=rule.expires.isoformat() if rule else None,
        )  # fmt: skip


def _surface(store: Store, record: RunRecord, groups: Sequence[Group], state: RunState) -> SurfaceFacts:
    reasons = [(reason, count) for _, reason, count in store.reasons(record.run, [Kind.NOT_COMPARED])][:10]
    if state.missing:
        reasons.append(("the run ended before they were", state.missing))
    place = sorted(record.graph.order, key=lambda name: name.encode())
    idle = dict.fromkeys(record.graph.order, 0)
    for group in groups:
        for step, letter in zip(place, group.steps, strict=False):
            idle[step] += group.count if letter == "N" else 0
    return SurfaceFacts(
        observed=tuple(record.surface.get("observed", ())), unobserved=tuple(record.surface.get("unobserved", ())),
        not_compared=tuple(reasons), not_applied=tuple((step, count) for step, count in idle.items() if count),
    )  # fmt: skip


def _notes(
    record: RunRecord, state: RunState, counts: Counts, evidence: Evidence, others: Sequence[tuple[str, str]],
    now: dt.datetime,
) -> Sequence[str]:  # fmt: skip
    notes: list[str] = []
    if state.status == "running":
        notes.append("The run is still going on; what is said here holds now, and may be read at any time.")
    if state.status == "abandoned":
        notes.append(f"The runner is gone without an end: `{record.plan.goes_on_with}` goes on.")
    if state.status == "paused":
        goes_on = record.plan.goes_on_with
        notes.append(f"Its loop stands still: `{goes_on}` goes on, in a new run if code or route are others by then.")
    if counts.overran:
        notes.append(f"{text.times(counts.overran, 'tick')} began late because the one before overran its interval.")
    if not record.plan.interval_s and counts.n:
        notes.append("Ticks ran back to back, so whether one fits its interval was not asked.")
    if evidence.whole.unknown:
        notes.append(
            f"Of {text.times(evidence.whole.unknown, 'tick')} the outcome is not known; every bound takes the worst."
        )
    if runs := counts.earlier.runs:
        named = ", ".join(reversed(runs[-3:])) + (f" and {len(runs) - 3} more" if len(runs) > 3 else "")
        notes.append(f"Earlier runs of the same version count too, see the conditions: {named}.")
    for rule in record.rules.expired(now.date()):
        if count := counts.rules.get(rule, 0):
            notes.append(f"Rule {rule} has expired: what it hid on {text.times(count, 'tick')} counts again.")
    for policy, status in (each for each in others if each[1] != Decision.KEEP_RUNNING):
        notes.append(f"The same version was judged {status} under policy {policy} with other budgets or rules.")
    return notes


def safe(value: _T) -> _T:
    """The value with every text in it safe to show: names of steps, kinds of ticks and errors are a user's."""
    return _made_safe(value)  # type: ignore[no-any-return]


def _made_safe(value: Any) -> Any:
    if type(value) is str:
        return text.plain(value, 2000)
    if isinstance(value, tuple):
        return tuple(_made_safe(item) for item in value)
    if isinstance(value, Mapping):
        return {_made_safe(key): _made_safe(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(
            value, **{each.name: _made_safe(getattr(value, each.name)) for each in dataclasses.fields(value)}
        )
    return value
