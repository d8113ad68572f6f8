"""All SQL of drills."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from shadow.compare import Kind
from shadow.drill_facts import SideFacts
from shadow.faults import Shot
from shadow.models import Drill, DrillSide, DrillTrial, ShadowComparison, TapeRow
from tickover.canonical import Json, canonical_text, parse
from tickover.errors import ConfigurationError
from tickover.execution import System


class UnknownDrill(ConfigurationError):
    """There is no drill of that name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DrillRecord:
    """A drill as it is stored; immutable. is_evidence: False for one that looks again at a single trial."""

    drill: str
    run: str
    behaviour_key: str
    name: str
    shots: tuple[Shot, ...]
    time_scale: float
    is_evidence: bool
    started_at: dt.datetime
    finished_at: dt.datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialRecord:
    """A trial as it is stored; immutable. sides: system -> document with `facts`, `ledger` and `observation`."""

    drill: str
    trial: int
    kind: str
    step: str
    seed: int
    tick: int
    first: str
    sides: dict[System, dict[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class KindCounts:
    """The drills of one kind of fault for one behaviour; immutable. A trial whose end is not known, in whichever
    system, did not recover there. pairs: (trials, new only, old only) on which both systems can be told; new_* are
    the candidate's, old_* the control's; *_n: trials that the system can be told of."""

    kind: str
    new_n: int = 0
    new_recovered: int = 0
    late: int = 0
    lost: int = 0
    doubled: int = 0
    new_s: float | None = None
    old_n: int = 0
    old_recovered: int = 0
    old_s: float | None = None
    pairs: tuple[int, int, int] = (0, 0, 0)


class DrillStore:
    """What drills are kept in. Threads may share it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(
        self, drill: str, run: str, behaviour_key: str, name: str, shots: Sequence[Shot], time_scale: float,
        *, is_evidence: bool,
    ) -> None:  # fmt: skip
        """Keep a new drill with all that it is going to do."""
        plan = {"name": name, "shots": [[shot.kind, list(shot.steps), shot.seed] for shot in shots]}
        with self._engine.begin() as connection:
            connection.execute(
                insert(Drill).values(
                    drill=drill, run=run, behaviour_key=behaviour_key, plan=canonical_text(plan),
                    time_scale=time_scale, is_evidence=is_evidence,
                )
            )  # fmt: skip

    def drill(self, name: str) -> DrillRecord:
        """The drill of that name. Raises UnknownDrill."""
        with self._engine.connect() as connection:
            row = connection.execute(select(Drill).where(Drill.drill == name)).first()
        if row is None:
            raise UnknownDrill(f"there is no drill {name!r}; `tickover drills` lists them")
        return _drill(row)

    def drills(self, limit: int = 50) -> list[DrillRecord]:
        """The latest drills, newest first."""
        with self._engine.connect() as connection:
            return [_drill(row) for row in connection.execute(
                select(Drill).order_by(Drill.started_at.desc()).limit(limit)
            )]  # fmt: skip

    def exists(self, name: str) -> bool:
        """Whether there is a drill of that name."""
        with self._engine.connect() as connection:
            return connection.execute(select(Drill.drill).where(Drill.drill == name)).first() is not None

    def finish(self, drill: str) -> None:
        """Note that all trials of a drill are done."""
        with self._engine.begin() as connection:
            connection.execute(update(Drill).where(Drill.drill == drill).values(finished_at=func.now()))

    def begin_trial(self, drill: str, trial: int, shot: Shot, tick: int, first: System) -> None:
        """Note that a trial is begun, before anything is broken."""
        values = {"kind": shot.kind, "step": shot.step(), "seed": shot.seed, "tick": tick, "first": first.value}
        with self._engine.begin() as connection:
            connection.execute(
                insert(DrillTrial).values(drill=drill, trial=trial, **values).on_conflict_do_nothing()
            )  # fmt: skip

    def keep_sides(self, drill: str, trial: int, sides: dict[System, tuple[SideFacts, Json]]) -> None:
        """Keep what both systems did, all or none."""
        with self._engine.begin() as connection:
            for system, (found, document) in sides.items():
                connection.execute(
                    insert(DrillSide).values(
                        drill=drill, trial=trial, system=system.value, outcome=found.outcome,
                        recovered=found.recovered, seconds=found.seconds, judged_s=found.judged_s, lost=found.lost,
                        doubled=found.doubled, document=canonical_text(document),
                    ).on_conflict_do_nothing()
                )  # fmt: skip

    def done(self, drill: str) -> set[int]:
        """The trials that have ended."""
        with self._engine.connect() as connection:
            return set(connection.execute(select(DrillSide.trial).where(DrillSide.drill == drill)).scalars())

    def trials(self, drill: str) -> list[TrialRecord]:
        """The trials of a drill that were begun, in order."""
        with self._engine.connect() as connection:
            rows = list(connection.execute(
                select(DrillTrial).where(DrillTrial.drill == drill).order_by(DrillTrial.trial)
            ))  # fmt: skip
            sides: dict[int, dict[System, dict[str, Any]]] = {}
            for side in connection.execute(select(DrillSide).where(DrillSide.drill == drill)):
                sides.setdefault(side.trial, {})[System(side.system)] = dict(parse(side.document))
        return [
            TrialRecord(
                drill=drill, trial=row.trial, kind=row.kind, step=row.step, seed=row.seed, tick=row.tick,
                first=row.first, sides=sides.get(row.trial, {}),
            )
            for row in rows
        ]  # fmt: skip

    def clean_ticks(self, run: str) -> list[int]:
        """The ticks of a run that both systems ended well and alike, without an error on their tape."""
        query = select(ShadowComparison.tick).where(
            ShadowComparison.run == run,
            ShadowComparison.kind.in_([Kind.MATCH.value, Kind.TOLERATED.value]),
            ShadowComparison.control_outcome == "done", ShadowComparison.candidate_outcome == "done",
            ~ShadowComparison.control_gave_up, ~ShadowComparison.candidate_gave_up,
            text("NOT EXISTS (SELECT FROM tape_entries e WHERE e.run = shadow_comparisons.run "
                 "AND e.tick = shadow_comparisons.tick AND (e.error IS NOT NULL OR e.missed))"),
        ).order_by(ShadowComparison.tick)  # fmt: skip
        with self._engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def steps_called(self, run: str, ticks: Sequence[int]) -> dict[int, frozenset[str]]:
        """Tick -> the steps that made port calls in it."""
        query = (
            select(TapeRow.tick, func.array_agg(TapeRow.step.distinct()))
            .where(TapeRow.run == run, TapeRow.tick.in_(ticks)).group_by(TapeRow.tick)
        )  # fmt: skip
        with self._engine.connect() as connection:
            found = {tick: frozenset(steps) for tick, steps in connection.execute(query)}
        return {tick: found.get(tick, frozenset()) for tick in ticks}

    def has_calls(self, run: str) -> bool:
        """Whether any step of the run made port calls."""
        with self._engine.connect() as connection:
            return connection.execute(select(TapeRow.tick).where(TapeRow.run == run).limit(1)).first() is not None

    def counts(self, behaviour_key: str, candidate: System, within_s: float) -> list[KindCounts]:
        """The drills of a behaviour by kind of fault, in the kinds' order of names. within_s: seconds at the run's
        own time scale beyond which a recovery is late."""
        control = System.LEGACY if candidate is System.ASYNC else System.ASYNC
        values = {"key": behaviour_key, "new": candidate.value, "old": control.value, "within": within_s}
        with self._engine.connect() as connection:
            return [
                KindCounts(
                    kind=row.kind, new_n=row.new_n, new_recovered=row.new_recovered, late=row.late, lost=row.lost,
                    doubled=row.doubled, new_s=row.new_s, old_n=row.old_n, old_recovered=row.old_recovered,
                    old_s=row.old_s, pairs=(row.pairs, row.new_only, row.old_only),
                )
                for row in connection.execute(text(_COUNTS), values)
            ]  # fmt: skip


# A trial counts from its beginning: without a row of the candidate it did not recover. A fault that the old system
# has no counterpart of leaves no row of it where the candidate has one.
_COUNTS = """
WITH trial AS (
    SELECT t.kind, new.system IS NOT NULL OR old.system IS NULL AS of_new, old.system IS NOT NULL AS of_old,
           coalesce(new.recovered, false) AS new_ok, coalesce(old.recovered, false) AS old_ok,
           new.judged_s, new.seconds AS new_s, old.seconds AS old_s, new.lost, new.doubled
    FROM drills d JOIN drill_trials t USING (drill)
    LEFT JOIN drill_sides new ON new.drill = t.drill AND new.trial = t.trial AND new.system = :new
    LEFT JOIN drill_sides old ON old.drill = t.drill AND old.trial = t.trial AND old.system = :old
    WHERE d.behaviour_key = :key AND d.is_evidence)
SELECT kind, count(*) FILTER (WHERE of_new) AS new_n, count(*) FILTER (WHERE of_new AND new_ok) AS new_recovered,
       count(*) FILTER (WHERE of_new AND new_ok AND judged_s > :within) AS late,
       count(*) FILTER (WHERE lost > 0) AS lost, count(*) FILTER (WHERE doubled > 0) AS doubled,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY new_s) FILTER (WHERE new_ok) AS new_s,
       count(*) FILTER (WHERE of_old) AS old_n, count(*) FILTER (WHERE of_old AND old_ok) AS old_recovered,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY old_s) FILTER (WHERE old_ok) AS old_s,
       count(*) FILTER (WHERE of_new AND of_old) AS pairs,
       count(*) FILTER (WHERE of_new AND of_old AND old_ok AND NOT new_ok) AS new_only,
       count(*) FILTER (WHERE of_new AND of_old AND new_ok AND NOT old_ok) AS old_only
FROM trial GROUP BY kind ORDER BY kind
"""


def _drill(row: Any) -> DrillRecord:
    plan = parse(row.plan)
    return DrillRecord(
        drill=row.drill, run=row.run, behaviour_key=row.behaviour_key, name=plan["name"],
        shots=tuple(Shot(kind=kind, steps=tuple(steps), seed=seed) for kind, steps, seed in plan["shots"]),
        time_scale=row.time_scale, is_evidence=row.is_evidence, started_at=row.started_at,
        finished_at=row.finished_at,
    )  # fmt: skip
