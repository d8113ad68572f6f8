"""The ticks behind a figure: which ones count against a criterion, and where to look at each."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports import text
from reports.aggregates import Aggregates, TickRow, limit_condition
from reports.criterion import Criterion
from reports.evidence import EPS_SHARE, gather, read_counts, run_state
from reports.policy import Policy
from reports.verdict import judge
from shadow.store import RunRecord, Store
from tickover.errors import ConfigurationError

_Condition = tuple[str, str, Mapping[str, Any]]


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


def explain(store: Store, run: str | None, policy: Policy, name: str, limit: int) -> Explanation:
    """The ticks behind a criterion of a run (None: the latest). limit: how many of a kind are listed.

    Raises UnknownRun, UnknownCriterion.
    """
    record = store.run(run)
    counts = read_counts(store, record, policy)
    verdict = judge(gather(record, policy, run_state(store, record, counts), counts), policy)
    by_name = {criterion.name: criterion for criterion in verdict.criteria}
    if name not in by_name:
        close = difflib.get_close_matches(name, by_name, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UnknownCriterion(f"there is no criterion {name!r}; {hint}there are: {', '.join(by_name)}")
    parts: list[Part] = []
    for title, condition, values in _conditions(name, record, policy):
        total, ticks = Aggregates(store.engine, record.run).ticks(condition, values, limit)
        parts.append(Part(title=title, total=total, ticks=tuple(ticks)))
    return Explanation(run=record.run, criterion=by_name[name], parts=tuple(parts))


def _conditions(name: str, record: RunRecord, policy: Policy) -> Sequence[_Condition]:
    """(title, condition in SQL on tick_evidence, its values) for each way in which a tick counts."""
    unknown: _Condition = ("of unknown outcome, counted as the worst case", "candidate_outcome IS NULL", {})
    if name == "mismatch":
        return [
            ("on which the two differ", "kind = 'mismatch'", {}),
            ("that nothing could confirm, counted beyond their own budget", "kind = 'unverified'", {}),
            ("hidden by rules, not counted", "kind = 'tolerated'", {}),
            unknown,
        ]
    if name.startswith("mismatch/"):
        order = sorted(record.graph.order, key=lambda step: step.encode())
        place = {"place": order.index(name.removeprefix("mismatch/")) + 1}
        letter = "substr(steps, :place, 1)"
        return [
            ("on which the two part at this step", f"{letter} = 'D' AND kind IN ('mismatch', 'improved')", place),
            ("that nothing could confirm", f"{letter} IN ('E', 'D') AND kind = 'unverified'", place),
            unknown,
        ]
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
            unknown,
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
