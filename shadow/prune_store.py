"""All SQL that removes runs."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from sqlalchemy import Engine, text

from shadow.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class Aged:
    """A run as far as pruning asks; immutable.

    active_at: when it last ended, claimed or compared a tick, or was drilled. drills: how many were made from it.
    switchovers: epochs of the moves that rest on it, in order. in_present_epoch: ticks of the epoch that the route is
    in name it as what runs beside them.
    """

    run: str
    status: str
    behaviour_key: str
    started_at: dt.datetime
    active_at: dt.datetime
    ticks: int
    drills: int
    switchovers: tuple[int, ...]
    in_present_epoch: bool
    is_held: bool


# A tick that was claimed is activity, compared or not: a run that was cut off has no end.
_RUNS = """
SELECT r.run, r.status, r.behaviour_key, r.started_at,
       greatest(r.started_at, r.finished_at,
           (SELECT max(c.created_at) FROM shadow_comparisons c WHERE c.run = r.run),
           (SELECT max(t.claimed_at) FROM shadow_ticks t WHERE t.run = r.run),
           (SELECT max(coalesce(d.finished_at, d.started_at)) FROM drills d WHERE d.run = r.run)) AS active_at,
       (SELECT count(*) FROM shadow_ticks t WHERE t.run = r.run) AS ticks,
       (SELECT count(*) FROM drills d WHERE d.run = r.run) AS drills,
       coalesce((SELECT array_agg(s.epoch ORDER BY s.epoch) FROM switchovers s WHERE s.evidence_run = r.run), '{}')
           AS switchovers,
       EXISTS (SELECT FROM ticks t JOIN route ON route.epoch = t.epoch WHERE t.beside = r.run) AS in_present_epoch
FROM shadow_runs r
"""
# The engine's rows go by cascade. What a loop's tick rests on is the loop's: only its own names are a run's.
_DELETE = (
    "DELETE FROM drill_sides WHERE drill IN (SELECT drill FROM drills WHERE run = :run)",
    "DELETE FROM drill_trials WHERE drill IN (SELECT drill FROM drills WHERE run = :run)",
    "DELETE FROM drills WHERE run = :run",
    "DELETE FROM workflows w WHERE w.run = :run AND NOT EXISTS "
    "(SELECT FROM ticks t WHERE t.run = w.run AND t.tick = w.tick AND t.execution_id = w.execution_id)",
    "DELETE FROM tape_entries WHERE run = :run",
    "DELETE FROM shadow_attributions WHERE run = :run",
    "DELETE FROM shadow_noise WHERE run = :run",
    "DELETE FROM shadow_late_effects WHERE run = :run",
    # Its trigger takes the rows of tick_evidence along.
    "DELETE FROM shadow_comparisons WHERE run = :run",
    "DELETE FROM shadow_observations WHERE run = :run",
    "DELETE FROM shadow_states WHERE run = :run",
    "DELETE FROM shadow_ticks WHERE run = :run",
    "DELETE FROM shadow_runs WHERE run = :run",
)


class PruneStore:
    """Reads what pruning asks of runs, and removes them. Verdicts stay: a NOT_READY holds for its version."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._store = Store(engine)

    def runs(self, *, held_by_us: str | None = None) -> list[Aged]:
        """All runs. held_by_us: the one that the caller holds, which is not held by another then."""
        with self._engine.connect() as connection:
            rows = list(connection.execute(text(_RUNS)))
        return [
            Aged(
                run=row.run, status=row.status, behaviour_key=row.behaviour_key, started_at=row.started_at,
                active_at=row.active_at, ticks=row.ticks, drills=row.drills, switchovers=tuple(row.switchovers),
                in_present_epoch=row.in_present_epoch,
                is_held=row.run != held_by_us and self._store.is_held(row.run),
            )
            for row in rows
        ]  # fmt: skip

    def delete(self, run: str) -> None:
        """Remove a run with all its rows, all or none."""
        with self._engine.begin() as connection:
            for statement in _DELETE:
                connection.execute(text(statement), {"run": run})
