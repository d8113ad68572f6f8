"""What is kept of switchovers, and what they ask of the database."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any

from tickover.canonical import canonical_text, parse
from tickover.ground.raw import connect_raw

_KEEP = """
INSERT INTO switchovers (epoch, run, home, evidence_run, policy, verdict, failed, backup, quiet_hours)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
_ALL = """
SELECT epoch, run, home, evidence_run, policy, verdict, failed, backup, quiet_hours, created_at
FROM switchovers ORDER BY epoch
"""
_OVERDUE = """
SELECT count(*) FROM step_runs s JOIN workflows w ON w.id = s.workflow_id
WHERE w.status = 'running' AND s.status = 'ready' AND s.hints > 2
"""
_FIRST = """
SELECT tick, outcome, extract(epoch FROM adopted_at - claimed_at) FROM ticks
WHERE run = %s AND epoch = %s AND owner = 'async' ORDER BY adopted_at NULLS LAST, tick LIMIT 1
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Basis:
    """What a switchover rested on; immutable. failed: names of checks that failed although it was made. backup: its
    folder, None for none. quiet_hours: how long what is left over is to be kept."""

    run: str
    home: str
    evidence_run: str | None
    policy: str
    verdict: str | None
    failed: tuple[str, ...]
    backup: str | None
    quiet_hours: float


@dataclass(frozen=True, kw_only=True, slots=True)
class FirstTick:
    """The first tick of the new system under an epoch; immutable. outcome, duration_s: None while it runs."""

    tick: int
    outcome: str | None
    duration_s: float | None


def keep(do: Any, epoch: int, basis: Basis) -> None:
    """Store what a switchover rested on. do: the cursor of its transaction."""
    do.execute(
        _KEEP,
        (
            epoch, basis.run, basis.home, basis.evidence_run, basis.policy, basis.verdict,
            canonical_text(list(basis.failed)), basis.backup, basis.quiet_hours,
        ),
    )  # fmt: skip


def kept() -> dict[int, Basis]:
    """Switchovers by the epoch that they began, the first one first."""
    return {
        row[0]: Basis(
            run=row[1], home=row[2], evidence_run=row[3], policy=row[4], verdict=row[5], failed=tuple(parse(row[6])),
            backup=row[7], quiet_hours=row[8],
        )
        for row in _rows(_ALL)
    }  # fmt: skip


def overdue() -> int:
    """How many steps wait for a worker longer than they should."""
    return int(_rows(_OVERDUE)[0][0])


def first_tick(run: str, epoch: int) -> FirstTick | None:
    """The new system's first tick of a run under an epoch: the first that ended, else the one that runs."""
    rows = _rows(_FIRST, (run, epoch))
    if not rows:
        return None
    tick, outcome, duration_s = rows[0]
    return FirstTick(tick=tick, outcome=outcome, duration_s=None if duration_s is None else float(duration_s))


def database_bytes() -> int:
    """How large the database is."""
    return int(_rows("SELECT pg_database_size(current_database())")[0][0])


def _rows(statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    with closing(connect_raw(application_name="tickover switchover")) as connection, connection.cursor() as do:
        do.execute(statement, values)
        return list(do.fetchall())
