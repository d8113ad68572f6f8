"""The ticks behind a figure: which ones count against a criterion, and where to look at each."""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports import text
from reports.aggregates import Aggregates, Group, TickRow, limit_condition
from reports.criterion import Criterion
from reports.evidence import EPS_SHARE, gather, read_counts, run_state
from reports.lifting import lift
from reports.policy import Policy
from reports.verdict import judge
from shadow.compare import Kind
from shadow.observation import Graph
from shadow.store import RunRecord, Store
from tickover.errors import ConfigurationError

_Condition = tuple[str, str, Mapping[str, Any]]
_MISSING = "started and never compared, counted as the worst case"


class UnknownCriterion(ConfigurationError):
    """The policy and the evidence have no criterion of that name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Ticks that count in one way; immutable. total: how many there are; ticks: the first of them."""

    title: str
    total: int
    ticks: tuple[TickRow, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """A criterion and the ticks behind it; immutable."""

    run: str
    criterion: Criterion
    parts: tuple[Part, ...]


def explain(
    store: Store, run: str | None, policy: Policy, name: str, limit: int, *, today: dt.date | None = None
) -> Explanation:
    """The ticks behind a criterion of a run (None: the latest). limit: how many of a kind are listed. today: on which
    rules must hold to hide something, None for the day it is.

    Raises UnknownRun, UnknownCriterion.
    """
    record = store.run(run)
    today = today or dt.datetime.now(dt.UTC).date()
    counts = read_counts(store, record, policy)
    state = run_state(store, record, counts)
    verdict = judge(gather(record, policy, state, counts, on=today), policy)
    by_name = {criterion.name: criterion for criterion in verdict.criteria}
    if name not in by_name:
        close = difflib.get_close_matches(name, by_name, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UnknownCriterion(f"there is no criterion {name!r}; {hint}there are: {', '.join(by_name)}")
    parts: list[Part] = []
    counted = Aggregates(store.engine, record.run)
    for title, condition, values in _conditions(name, record, policy, counts.groups, record.rules.expired(today)):
        total, ticks = counted.ticks(condition, values, limit)
        parts.append(Part(title=title, total=total, ticks=tuple(ticks)))
    if state.missing and by_name[name].unknown:
        missing = [_never_compared(tick) for tick in store.uncompared(record.run)]
        parts.append(Part(title=_MISSING, total=len(missing), ticks=tuple(missing[:limit])))
    return Explanation(run=record.run, criterion=by_name[name], parts=tuple(parts))


def _never_compared(tick: int) -> TickRow:
    return TickRow(tick=tick, kind="no comparison", reason="", control_ms=None, candidate_ms=None)


def _conditions(
    name: str, record: RunRecord, policy: Policy, groups: Sequence[Group], expired: Sequence[str]
) -> Sequence[_Condition]:
    """(title, condition in SQL on tick_evidence, its values) for each way in which a tick counts."""
    not_compared: _Condition = ("not compared, counted as the worst case", "kind = 'not_compared'", {})
    unknown: _Condition = ("of unknown outcome, counted as the worst case", "candidate_outcome IS NULL", {})
    if name == "mismatch" or name.startswith("mismatch/"):
        step = name.partition("/")[2] or None
        return [*_parted(step, record.graph, groups, expired), not_compared]
    if name == "unverified":
        return [("that nothing could confirm", "kind = 'unverified'", {})]
    if name == "failure":
        bad_new, bad_old = "candidate_outcome <> 'done'", "control_outcome <> 'done'"
        return [
            ("that failed in the new system alone", f"{bad_new} AND control_outcome = 'done'", {}),
            (
                "that failed in the old system alone, counted in favour",
                f"{bad_old} AND candidate_outcome = 'done'",
                {},
            ),
            ("that failed in both, not counted", f"{bad_new} AND {bad_old}", {}),
            (unknown[0], "candidate_outcome IS NULL OR control_outcome IS NULL", {}),
        ]
    interval_ms = record.plan.interval_s * 1000
    limits = {
        "speed": (policy.speed.factor, EPS_SHARE * interval_ms),
        "tail": (policy.tail.factor, EPS_SHARE * interval_ms),
        "far_tail": (policy.far_tail.factor, EPS_SHARE * interval_ms),
        "deadline": (0.0, interval_ms),
    }
    if name in limits:
        condition, values = limit_condition(*limits[name])
        return [("over the limit", f"candidate_outcome IS NOT NULL AND {condition}", values), unknown]
    return []


def _parted(step: str | None, graph: Graph, groups: Sequence[Group], expired: Sequence[str]) -> Iterator[_Condition]:
    """How ticks count against equality at a step, or as a whole (None). Where rules hid something, by the very
    counting that the verdict rests on."""
    place = 0 if step is None else sorted(graph.order, key=lambda name: name.encode()).index(step) + 1

    def parts(group: Group) -> bool:
        return group.kind == Kind.MISMATCH if step is None else group.steps[place - 1 : place] == "D"

    lifted = lift(groups, graph, expired)
    counts: list[str] = []
    hides: list[str] = []
    for group, now, bare in zip(groups, lifted, lift(lifted, graph), strict=True):
        if group.hidden is not None:
            alike = f"{group.kind} {group.steps} {group.hidden}"
            counts += [alike] if parts(now) and now.kind != Kind.UNVERIFIED else []
            hides += [alike] if parts(bare) and not parts(now) else []
    where = {"place": place, "counts": counts, "hides": hides}
    alike = "kind || ' ' || steps || ' ' || hidden"
    differs = "kind = 'mismatch'"
    if step is not None:
        differs = "substr(steps, :place, 1) = 'D' AND kind IN ('mismatch', 'improved')"
    yield (
        f"on which the two {'differ' if step is None else 'part at this step'}",
        f"(hidden IS NULL AND {differs}) OR {alike} = ANY(:counts)", where,
    )  # fmt: skip
    yield "hidden by rules, not counted", f"{alike} = ANY(:hides)", where
    reached = "true" if step is None else "substr(steps, :place, 1) IN ('E', 'D')"
    beyond = ", counted beyond their own budget"
    yield f"that nothing could confirm{beyond}", f"kind = 'unverified' AND {reached}", where


def render(found: Explanation) -> str:
    """The explanation as text for a terminal."""
    criterion = found.criterion
    lines = [
        f"{text.plain(criterion.name)}: {criterion.status.value}. {text.plain(criterion.sentence, 1000)}",
        f"{text.grouped(criterion.bad)} against, of {text.grouped(criterion.n)} counted in run {found.run}.",
    ]
    if not found.parts:
        lines.append("It is not counted from the ticks of a shadow run.")
    for part in found.parts:
        if not part.total:
            continue
        lines += ["", f"{text.times(part.total, 'tick')} {part.title}"]
        lines += [
            f"  {row.tick:>8}  {row.kind:<16} {text.duration(row.control_ms):>9} "
            f"{text.duration(row.candidate_ms):>9}  {text.plain(row.reason, 90)}"[:100].rstrip()
            for row in part.ticks
        ]
        if part.total > len(part.ticks):
            lines.append(f"  and {text.grouped(part.total - len(part.ticks))} more; --limit lists more of them")
    if any(part.total for part in found.parts):
        lines += ["", f"`tickover diff {found.run} TICK` shows one of them in both systems."]
    elif found.parts:
        lines += ["", "No tick counts against it."]
    return "\n".join(lines)
