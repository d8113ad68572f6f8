"""Earlier runs of the version: what they counted stays, so that starting again does not wash it away.

Each run has counts of its own, and a verdict on it is wrong with a stated probability. Whoever starts again until a
run passes would have that probability each time; so READY also needs that all runs of the version together keep each
critical budget.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from reports.aggregates import NEW_MS, Group
from reports.counting import failure_pairs, step_tallies, whole_tally
from reports.lifting import lift
from reports.tally import Earlier, Tally
from shadow.store import RunRecord, Store

_ALIKE = "kind, control_outcome, candidate_outcome, steps, hidden"


@dataclass(frozen=True, kw_only=True, slots=True)
class EarlierCounts:
    """What the earlier runs of a version counted; immutable.

    runs: their names, oldest first; same_rules: how many have the same rules. groups: of all; judged: of those
    with the same rules. missing, judged_missing: ticks that were started and have no comparison, though nothing works
    on them. timed: of the runs with the same interval, ticks whose candidate is known; overrun: of these, those that
    took longer.
    """

    runs: tuple[str, ...] = ()
    same_rules: int = 0
    groups: tuple[Group, ...] = ()
    judged: tuple[Group, ...] = ()
    missing: int = 0
    judged_missing: int = 0
    timed: int = 0
    overrun: int = 0


def read_earlier(store: Store, record: RunRecord, snapshot: str) -> EarlierCounts:
    """The counts of the runs of the same behaviour that began before this one, as of a snapshot."""
    with store.engine.connect() as opened:
        connection = opened.execution_options(isolation_level="REPEATABLE READ")
        connection.exec_driver_sql(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
        runs = _runs(connection, record)
        if not runs:
            return EarlierCounts()
        names = [row["run"] for row in runs]
        same = [row["run"] for row in runs if row["judgement_key"] == record.judgement_key]
        over = [row["run"] for row in runs if row["status"] != "running" or not store.is_held(row["run"])]
        timed = [row["run"] for row in runs if _interval_s(row["plan"]) == record.plan.interval_s]
        found = connection.execute(
            text(
                f"SELECT run = ANY(:same) AS judged, {_ALIKE}, count(*) AS count FROM tick_evidence "
                f"WHERE run = ANY(:runs) GROUP BY judged, {_ALIKE} ORDER BY judged, {_ALIKE}"
            ),
            {"runs": names, "same": same},
        )
        rows = [dict(row) for row in found.mappings()]
        groups = [(row.pop("judged"), _group(row)) for row in rows]
        slow = connection.execute(
            text(
                f"SELECT count(*), count(*) FILTER (WHERE {NEW_MS} > :limit) FROM tick_evidence "
                "WHERE run = ANY(:runs) AND candidate_outcome IS NOT NULL"
            ),
            {"runs": timed, "limit": record.plan.interval_s * 1000},
        ).one()
        return EarlierCounts(
            runs=tuple(names), same_rules=len(same), groups=tuple(group for _, group in groups),
            judged=tuple(group for judged, group in groups if judged),
            missing=_missing(connection, over), judged_missing=_missing(connection, list({*over} & {*same})),
            timed=slow[0], overrun=slow[1],
        )  # fmt: skip


def tally_earlier(counts: EarlierCounts, record: RunRecord, expired: tuple[str, ...]) -> Earlier | None:
    """The tallies of the earlier runs; None if there is none. expired: rules that hide nothing any more."""
    if not counts.runs:
        return None
    judged = lift(counts.judged, record.graph, expired)
    unknown = counts.missing + sum(group.count for group in counts.groups if group.candidate_outcome is None)
    timed = Tally(n=counts.timed, bad=counts.overrun, unknown=unknown if counts.timed else 0)
    return Earlier(
        runs=len(counts.runs), same_rules=counts.same_rules, whole=whole_tally(judged, counts.judged_missing),
        steps=step_tallies(judged, record.graph.order, counts.judged_missing),
        failures=failure_pairs(counts.groups, counts.missing),
        deadline=timed if record.plan.interval_s > 0 else Tally(),
    )  # fmt: skip


def _runs(connection: Connection, record: RunRecord) -> list[dict[str, Any]]:
    found = connection.execute(
        text(
            "SELECT run, status, judgement_key, plan FROM shadow_runs WHERE behaviour_key = :key "
            "AND (started_at, run) < (:began, :run) ORDER BY started_at, run"
        ),
        {"key": record.behaviour_key, "began": record.started_at, "run": record.run},
    )
    return [dict(row) for row in found.mappings()]


def _interval_s(plan: str) -> float | None:
    document = json.loads(plan)
    every_s, scale = document.get("every_s"), document.get("time_scale")
    return every_s * scale if isinstance(every_s, int | float) and isinstance(scale, int | float) else None


def _missing(connection: Connection, runs: list[str]) -> int:
    """Ticks of these runs, on which nothing works any more, that have no comparison."""
    query = text(
        "SELECT (SELECT count(*) FROM shadow_ticks WHERE run = ANY(:runs)) "
        "- (SELECT count(*) FROM tick_evidence WHERE run = ANY(:runs))"
    )
    return max(0, int(connection.execute(query, {"runs": runs}).scalar_one()))


def _group(row: dict[str, Any]) -> Group:
    return Group(stratum=None, control_gave_up=False, candidate_gave_up=False, **row)
