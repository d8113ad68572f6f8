"""All SQL of the side-by-side runs (that of the tape is in tickover.ground.tape_store)."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from shadow.compare import Comparison, Kind
from shadow.models import (
    ShadowAttribution,
    ShadowComparison,
    ShadowLateEffect,
    ShadowObservation,
    ShadowRun,
    ShadowState,
    ShadowTick,
    TapeRow,
)
from shadow.observation import Graph, Observation
from shadow.plan import RunPlan
from shadow.rules import RuleBook
from shadow.signature import Sighting
from tickover.canonical import Json, canonical_text, digest, parse
from tickover.draws import seed_of
from tickover.errors import ConfigurationError, TickoverError
from tickover.execution import ExecutionKey, Purpose
from tickover.tape import TapeEntry


class UnknownRun(ConfigurationError):
    """There is no run of that name."""


class UnreadableRun(ConfigurationError):
    """A run is stored in a form that this version of Tickover does not read: `run` is its name, `started_at` when it
    began, `why` what is wrong with it."""

    def __init__(self, run: str, started_at: dt.datetime, why: str) -> None:
        self.run, self.started_at, self.why = run, started_at, why
        super().__init__(
            f"run {run} was stored by another version of Tickover or changed since, and cannot be read ({why}); "
            "start a new run with `tickover shadow`"
        )


class RunBusy(ConfigurationError):
    """Another runner holds the run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """A run as it is stored; immutable. status: running, done or interrupted; see `Store.status`."""

    run: str
    status: str
    plan: RunPlan
    graph: Graph
    behaviour_key: str
    judgement_key: str
    rules: RuleBook
    surface: Mapping[str, Any]
    started_at: dt.datetime
    finished_at: dt.datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class TickRecord:
    """A scheduled tick as it is stored; immutable. state_before: digest of the document it starts from."""

    tick: int
    due_at: dt.datetime
    claimed_at: dt.datetime
    overran: bool
    first: str
    state_before: str | None
    stratum: str | None


class Store:
    """What runs, ticks, observations and comparisons are kept in. Threads may share it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    # Runs

    def create_run(self, plan: RunPlan, graph: Graph, keys: Mapping[str, Any], holder: str) -> None:
        """Keep a new run. `keys` has `behaviour`, `judgement`, and what they were made from."""
        with self.engine.begin() as connection:
            connection.execute(
                insert(ShadowRun).values(
                    run=plan.run,
                    status="running",
                    plan=canonical_text(plan.to_json()),
                    graph=canonical_text(graph.to_json()),
                    behaviour_key=keys["behaviour"],
                    judgement_key=keys["judgement"],
                    keys=canonical_text(keys),
                    holder=holder,
                )
            )

    @contextmanager
    def hold(self, run: str, holder: str) -> Iterator[None]:
        """Be the only runner of a run while the context lasts. Raises RunBusy. The hold ends with the connection, so
        a runner that was killed holds nothing."""
        with self.engine.connect() as connection:
            name = {"key": seed_of("runner", run) % 2**63}
            if not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), name).scalar_one():
                other = connection.execute(select(ShadowRun.holder).where(ShadowRun.run == run)).scalar()
                raise RunBusy(f"run {run} is held by another runner ({other}); stop that one, or start a new run")
            connection.execute(update(ShadowRun).where(ShadowRun.run == run).values(holder=holder))
            connection.commit()
            try:
                yield
            finally:
                # A connection that was lost holds nothing any more.
                with suppress(DBAPIError):
                    connection.execute(text("SELECT pg_advisory_unlock(:key)"), name)
                    connection.commit()

    def is_held(self, run: str) -> bool:
        """Whether a runner holds the run at this moment."""
        key = seed_of("runner", run) % 2**63
        query = text(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND "
            "classid = CAST(:high AS oid) AND objid = CAST(:low AS oid) AND "
            "database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
        )
        with self.engine.connect() as connection:
            return bool(connection.execute(query, {"high": key >> 32, "low": key & 0xFFFFFFFF}).scalar_one())

    def set_status(self, run: str, status: str) -> None:
        """Note how far a run is: running, done or interrupted."""
        finished = func.now() if status == "done" else None
        with self.engine.begin() as connection:
            connection.execute(
                update(ShadowRun).where(ShadowRun.run == run).values(status=status, finished_at=finished)
            )

    def status(self, record: RunRecord) -> str:
        """Where a run stands at this moment: running, done, interrupted, abandoned (its runner is gone) or paused
        (its loop stands still, and it has no end of its own)."""
        status = record.status
        if status == "running" and not self.is_held(record.run):
            # It may have ended between the two looks.
            status = self.run(record.run).status
            if status == "running":
                status = "abandoned"
        return "paused" if record.plan.ticks is None and status in ("interrupted", "abandoned") else status

    def extend(self, plan: RunPlan) -> RunRecord:
        """Keep a plan that is longer than it was; the run as it is then."""
        with self.engine.begin() as connection:
            kept = update(ShadowRun).where(ShadowRun.run == plan.run)
            connection.execute(kept.values(plan=canonical_text(plan.to_json())))
        return self.run(plan.run)

    def note_surface(self, run: str, surface: Mapping[str, Any]) -> None:
        """Keep what was observed of the control, and what was not."""
        with self.engine.begin() as connection:
            connection.execute(update(ShadowRun).where(ShadowRun.run == run).values(surface=canonical_text(surface)))

    def run(self, name: str | None) -> RunRecord:
        """The run of that name; None: the latest one. Raises UnknownRun, UnreadableRun."""
        query = select(ShadowRun).order_by(ShadowRun.started_at.desc(), ShadowRun.run.desc()).limit(1)
        if name is not None:
            query = query.where(ShadowRun.run == name)
        with self.engine.connect() as connection:
            row = connection.execute(query).first()
        if row is None:
            if name is None:
                raise UnknownRun("there is no run yet; `tickover shadow --ticks 10` makes one")
            raise UnknownRun(f"there is no run {name!r}; `tickover runs` lists them")
        return _run(row)

    def runs(self, limit: int = 50) -> list[RunRecord | UnreadableRun]:
        """The latest runs, newest first; one that cannot be read is in its place as the error that says why."""

        def record(row: Any) -> RunRecord | UnreadableRun:
            try:
                return _run(row)
            except UnreadableRun as error:
                return error

        query = select(ShadowRun).order_by(ShadowRun.started_at.desc()).limit(limit)
        with self.engine.connect() as connection:
            return [record(row) for row in connection.execute(query)]

    # Ticks

    def claim_tick(
        self, run: str, tick: int, token: str, *, due_at: dt.datetime, first: str, late_ms: float, overran: bool
    ) -> bool:
        """Claim a tick; False if it is claimed already, by whomever."""
        statement = insert(ShadowTick).values(
            run=run, tick=tick, token=token, due_at=due_at, first=first, late_ms=late_ms, overran=overran
        )
        with self.engine.begin() as connection:
            done = connection.execute(statement.on_conflict_do_nothing().returning(ShadowTick.tick))
            return done.first() is not None

    def set_start(self, run: str, tick: int, state: Json, stratum: str | None) -> None:
        """Keep the state that a tick starts from."""
        with self.engine.begin() as connection:
            self._set_start(connection, run, tick, state, stratum)

    def _set_start(self, connection: Connection, run: str, tick: int, state: Json, stratum: str | None) -> None:
        connection.execute(
            update(ShadowTick)
            .where(ShadowTick.run == run, ShadowTick.tick == tick, ShadowTick.state_before.is_(None))
            .values(state_before=self._keep_state(connection, run, state), stratum=stratum)
        )

    def ticks(self, run: str) -> list[TickRecord]:
        """The scheduled ticks of a run, in order."""
        with self.engine.connect() as connection:
            rows = connection.execute(select(ShadowTick).where(ShadowTick.run == run).order_by(ShadowTick.tick))
            return [_tick(row) for row in rows]

    def tick(self, run: str, tick: int) -> TickRecord | None:
        """A scheduled tick, or None."""
        query = select(ShadowTick).where(ShadowTick.run == run, ShadowTick.tick == tick)
        with self.engine.connect() as connection:
            row = connection.execute(query).first()
        return None if row is None else _tick(row)

    def state(self, run: str, name: str | None) -> Json:
        """The state document with that digest; None for None."""
        if name is None:
            return None
        query = select(ShadowState.document).where(ShadowState.run == run, ShadowState.digest == name)
        with self.engine.connect() as connection:
            return parse(connection.execute(query).scalar_one())

    def _keep_state(self, connection: Connection, run: str, state: Json) -> str | None:
        if state is None:
            return None
        name = digest(state)
        values = {"run": run, "digest": name, "document": canonical_text(state)}
        connection.execute(insert(ShadowState).values(**values).on_conflict_do_nothing())
        return name

    # Observations

    def save_observation(
        self,
        seen: Observation,
        *,
        calls: Sequence[TapeEntry] = (),
        state_before: Json = None,
        stratum: str | None = None,
    ) -> bool:
        """Keep an observation with the calls of its tape and the state the tick began with, all or none.

        False, and nothing changed, if there is one already: an observation is written once.
        """
        execution_id = _execution_id(seen)
        with self.engine.begin() as connection:
            row = insert(ShadowObservation).values(
                execution_id=execution_id,
                run=seen.run,
                tick=seen.tick,
                system=seen.system.value,
                purpose=seen.purpose.value,
                outcome=seen.outcome.value,
                duration_ms=seen.duration_ms,
                state_after=self._keep_state(connection, seen.run, seen.state_after),
                document=canonical_text(seen.to_json()),
            )
            new = connection.execute(row.on_conflict_do_nothing().returning(ShadowObservation.execution_id)).first()
            if new is None:
                return False
            if state_before is not None:
                self._set_start(connection, seen.run, seen.tick, state_before, stratum)
            _keep_calls(connection, calls)
        return True

    def keep_calls(self, calls: Sequence[TapeEntry]) -> None:
        """Keep calls on the tape; one that is there already stays as it was."""
        with self.engine.begin() as connection:
            _keep_calls(connection, calls)

    def observation(self, key: ExecutionKey) -> Observation | None:
        """The observation of an execution, or None."""
        query = select(ShadowObservation).where(ShadowObservation.execution_id == str(key))
        with self.engine.connect() as connection:
            row = connection.execute(query).first()
        return (
            None if row is None else Observation.from_json(parse(row.document), self.state(row.run, row.state_after))
        )

    def observations(self, run: str, tick: int) -> dict[Purpose, Observation]:
        """The observations of a tick, by purpose."""
        query = select(ShadowObservation).where(ShadowObservation.run == run, ShadowObservation.tick == tick)
        with self.engine.connect() as connection:
            rows = list(connection.execute(query))
        return {
            Purpose(row.purpose): Observation.from_json(parse(row.document), self.state(run, row.state_after))
            for row in rows
        }

    def keep_late(self, key: ExecutionKey, seen_in_tick: int, document: Json) -> None:
        """Keep what a system did after its observation was made."""
        with self.engine.begin() as connection:
            connection.execute(
                insert(ShadowLateEffect).values(
                    execution_id=str(key),
                    run=key.run,
                    tick=key.tick,
                    seen_in_tick=seen_in_tick,
                    document=canonical_text(document),
                )
            )

    def late(self, key: ExecutionKey) -> list[Json]:
        """What a system did after its observation was made, in the order in which it was seen."""
        query = (
            select(ShadowLateEffect.document)
            .where(ShadowLateEffect.execution_id == str(key))
            .order_by(ShadowLateEffect.id)
        )
        with self.engine.connect() as connection:
            return [parse(document) for document in connection.execute(query).scalars()]

    # Comparisons

    def save_comparison(
        self,
        run: RunRecord,
        tick: int,
        comparison: Comparison,
        control: Observation | None,
        candidate: Observation | None,
    ) -> bool:
        """Keep the comparison of a tick. False, and nothing changed, if there is one already."""
        with self.engine.begin() as connection:
            stratum = select(ShadowTick.stratum).where(ShadowTick.run == run.run, ShadowTick.tick == tick)
            row = insert(ShadowComparison).values(
                run=run.run,
                tick=tick,
                kind=comparison.kind.value,
                reason=comparison.reason[:2000],
                stratum=stratum.scalar_subquery(),
                control_outcome=control.outcome.value if control else None,
                candidate_outcome=candidate.outcome.value if candidate else None,
                control_ms=control.duration_ms if control else None,
                candidate_ms=candidate.duration_ms if candidate else None,
                control_gave_up=bool(control and control.trouble),
                candidate_gave_up=bool(candidate and candidate.trouble),
                steps=canonical_text(_step_rows(comparison, control, candidate)),
                document=canonical_text(comparison.to_json()),
                behaviour_key=run.behaviour_key,
                judgement_key=run.judgement_key,
            )
            if connection.execute(row.on_conflict_do_nothing().returning(ShadowComparison.tick)).first() is None:
                return False
            for attribution in comparison.attributions:
                connection.execute(
                    insert(ShadowAttribution).values(
                        run=run.run,
                        tick=tick,
                        step=attribution.step,
                        signature=attribution.signature,
                        kind=comparison.kind.value,
                        atoms=canonical_text(attribution.atoms),
                    )
                )
        return True

    def uncompared(self, run: str) -> list[int]:
        """The scheduled ticks that have no comparison yet, in order."""
        compared = select(ShadowComparison.tick).where(ShadowComparison.run == run)
        query = (
            select(ShadowTick.tick)
            .where(ShadowTick.run == run, ShadowTick.tick.not_in(compared))
            .order_by(ShadowTick.tick)
        )
        with self.engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def comparison(self, run: str, tick: int) -> dict[str, Any] | None:
        """The stored comparison of a tick as a document, or None."""
        query = select(ShadowComparison.document).where(ShadowComparison.run == run, ShadowComparison.tick == tick)
        with self.engine.connect() as connection:
            document = connection.execute(query).scalar()
        return None if document is None else dict(parse(document))

    def counts(self, run: str) -> dict[Kind, int]:
        """How many comparisons of each kind a run has, every kind named."""
        query = (
            select(ShadowComparison.kind, func.count())
            .where(ShadowComparison.run == run)
            .group_by(ShadowComparison.kind)
        )
        with self.engine.connect() as connection:
            found = {Kind(kind): int(count) for kind, count in connection.execute(query)}
        return {kind: found.get(kind, 0) for kind in Kind}

    def scheduled(self, run: str) -> tuple[int, int]:
        """How many ticks of a run are scheduled, and how many of them overran their interval."""
        query = select(func.count(), func.count().filter(ShadowTick.overran)).where(ShadowTick.run == run)
        with self.engine.connect() as connection:
            row = connection.execute(query).one()
        return int(row[0]), int(row[1])

    def reasons(self, run: str, kinds: Iterable[Kind]) -> list[tuple[str, str, int]]:
        """(kind, reason, count) of comparisons of these kinds, most frequent first."""
        query = (
            select(ShadowComparison.kind, ShadowComparison.reason, func.count())
            .where(ShadowComparison.run == run, ShadowComparison.kind.in_([kind.value for kind in kinds]))
            .group_by(ShadowComparison.kind, ShadowComparison.reason)
            .order_by(func.count().desc())
        )
        with self.engine.connect() as connection:
            return [(kind, reason, int(count)) for kind, reason, count in connection.execute(query)]

    def sightings(self, run: str) -> list[Sighting]:
        """What findings are made from: signatures with their counts."""
        table = ShadowAttribution
        query = (
            select(
                table.step, table.signature, table.kind, func.min(table.atoms), func.count(), func.min(table.tick),
                func.max(table.tick),
            )
            .where(table.run == run)
            .group_by(table.step, table.signature, table.kind)
        )  # fmt: skip
        with self.engine.connect() as connection:
            return [
                Sighting(
                    step=step,
                    signature=signature,
                    kind=kind,
                    atoms=tuple((atom[0], atom[1], atom[2]) for atom in json.loads(atoms)),
                    count=count,
                    first_tick=first,
                    last_tick=last,
                )
                for step, signature, kind, atoms, count, first, last in connection.execute(query)
            ]

    def timings(self, run: str) -> dict[str, tuple[float, float, float]]:
        """p50, p95 and p99 of the ticks that were compared, in milliseconds, by side."""
        shares = [0.5, 0.95, 0.99]
        columns = [
            func.percentile_cont(share).within_group(column)
            for column in (ShadowComparison.control_ms, ShadowComparison.candidate_ms)
            for share in shares
        ]
        with self.engine.connect() as connection:
            row = connection.execute(select(*columns).where(ShadowComparison.run == run)).one()
        if row[0] is None or row[3] is None:
            return {}
        return {"control": (row[0], row[1], row[2]), "candidate": (row[3], row[4], row[5])}

    def step_rows(self, run: str) -> Iterator[dict[str, Any]]:
        """Per compared tick, in order: step -> [verdict, control_ms, candidate_ms]."""
        query = select(ShadowComparison.steps).where(ShadowComparison.run == run).order_by(ShadowComparison.tick)
        with self.engine.connect().execution_options(stream_results=True, yield_per=2000) as connection:
            for document in connection.execute(query).scalars():
                yield json.loads(document)

    def last_state(self, run: str, system: str) -> tuple[int, Json] | None:
        """The latest tick of a run whose control left a state, and that state."""
        table = ShadowObservation
        query = (
            select(table.tick, table.state_after)
            .where(
                table.run == run,
                table.system == system,
                table.purpose == Purpose.CONTROL.value,
                table.state_after.is_not(None),
            )
            .order_by(table.tick.desc())
            .limit(1)
        )
        with self.engine.connect() as connection:
            row = connection.execute(query).first()
        return None if row is None else (row.tick, self.state(run, row.state_after))


def _execution_id(seen: Observation) -> str:
    return str(ExecutionKey(run=seen.run, tick=seen.tick, system=seen.system, purpose=seen.purpose))


def _keep_calls(connection: Connection, calls: Sequence[TapeEntry]) -> None:
    if not calls:
        return
    rows = [
        {
            **entry.to_json(),
            "request": canonical_text(entry.request),
            "answer": canonical_text(entry.answer),
            "error": None if entry.error is None else canonical_text(entry.error),
        }
        for entry in calls
    ]
    connection.execute(insert(TapeRow).on_conflict_do_nothing(), rows)


def _step_rows(
    comparison: Comparison, control: Observation | None, candidate: Observation | None
) -> dict[str, list[Any]]:
    def duration(side: Observation | None, step: str) -> float | None:
        seen = side.steps.get(step) if side else None
        return None if seen is None else seen.duration_ms

    return {
        step: [verdict.value, duration(control, step), duration(candidate, step)]
        for step, verdict in comparison.steps.items()
    }


def _run(row: Any) -> RunRecord:
    try:
        plan, graph = RunPlan.from_json(parse(row.plan)), Graph.from_json(parse(row.graph))
        rules, surface = RuleBook.from_json(parse(row.keys).get("rules", [])), parse(row.surface)
    except TickoverError as error:
        raise UnreadableRun(row.run, row.started_at, str(error)) from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UnreadableRun(row.run, row.started_at, repr(error)) from error
    return RunRecord(
        run=row.run,
        status=row.status,
        plan=plan,
        graph=graph,
        behaviour_key=row.behaviour_key,
        judgement_key=row.judgement_key,
        rules=rules,
        surface=surface,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )


def _tick(row: Any) -> TickRecord:
    return TickRecord(
        tick=row.tick,
        due_at=row.due_at,
        claimed_at=row.claimed_at,
        overran=row.overran,
        first=row.first,
        state_before=row.state_before,
        stratum=row.stratum,
    )
