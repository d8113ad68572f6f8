"""Outcomes: what became of an execution, read from its rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from async_tick.connection import Pool
from tickover.canonical import Json, parse
from tickover.effects import Effect
from tickover.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True, slots=True)
class StepOutcome:
    """How a step ended; immutable. status: done, fallback, failed, not_applicable, or (not ended) waiting, ready,
    running, cancelled. duration_ms: of the last attempt. diverged: doors at which it drew otherwise than the
    control."""

    status: str
    result: Json = None
    error: str | None = None
    attempts: int = 0
    recoveries: int = 0
    started_at: dt.datetime | None = None
    finished_at: dt.datetime | None = None
    diverged: tuple[str, ...] = ()

    @property
    def duration_ms(self) -> float | None:
        """Milliseconds of the last attempt, or None if it has not ended."""
        if self.started_at is None or self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds() * 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class ExecutionOutcome:
    """How an execution stands; immutable. status: running, done or failed. effects: in their one order."""

    execution_id: str
    status: str
    error: str | None
    state: Json
    input: Json
    created_at: dt.datetime
    finished_at: dt.datetime | None
    steps: Mapping[str, StepOutcome]
    effects: tuple[Effect, ...]

    @property
    def duration_ms(self) -> float | None:
        """Milliseconds from start to end, or None if it has not ended."""
        return None if self.finished_at is None else (self.finished_at - self.created_at).total_seconds() * 1000


# One round trip. Instants travel as microseconds since the epoch, which JSON keeps exactly.
_OUTCOME = """
SELECT w.status, w.error, w.state, w.input, w.created_at, w.finished_at, coalesce((
    SELECT json_agg(json_build_array(s.step, s.status, s.phase, s.error, s.attempt, s.recoveries,
                                     (extract(epoch FROM s.started_at) * 1000000)::bigint,
                                     (extract(epoch FROM s.finished_at) * 1000000)::bigint, c.state, s.diverged)
                    ORDER BY s.position)
    FROM step_runs s LEFT JOIN workflow_checkpoints c ON c.workflow_id = s.workflow_id AND c.stage = s.step
    WHERE s.workflow_id = w.id), '[]'), coalesce((
    SELECT json_agg(json_build_array(e.step, e.position, e.number, e.kind, e.payload, e.key)
                    ORDER BY e.position, e.number)
    FROM effects e WHERE e.workflow_id = w.id), '[]')
FROM workflows w WHERE w.execution_id = %s
"""
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def read_outcome(connection: Pool, execution_id: str) -> ExecutionOutcome:
    """How an execution stands now. Raises ConfigurationError if there is none of that name."""
    found = connection.rows(_OUTCOME, (execution_id,))
    if not found:
        raise ConfigurationError(f"there is no execution {execution_id!r}; `tickover checkpoints` lists them")
    status, error, state, given, created_at, finished_at, steps, effects = found[0]
    return ExecutionOutcome(
        execution_id=execution_id, status=status, error=error, state=parse(state), input=parse(given),
        created_at=created_at, finished_at=finished_at, steps={step[0]: _step(step) for step in steps},
        effects=tuple(
            Effect(step=step, position=position, number=number, kind=kind, payload=parse(payload), key=key)
            for step, position, number, kind, payload, key in effects
        ),
    )  # fmt: skip


def _instant(microseconds: int | None) -> dt.datetime | None:
    return None if microseconds is None else _EPOCH + dt.timedelta(microseconds=microseconds)


def _step(row: list[Any]) -> StepOutcome:
    status = "fallback" if row[1] == "done" and row[2] == "fallback" else row[1]
    return StepOutcome(
        status=status, error=row[3] if status != "done" else None, attempts=row[4], recoveries=row[5],
        started_at=_instant(row[6]), finished_at=_instant(row[7]), result=None if row[8] is None else parse(row[8]),
        diverged=tuple(row[9] or ()),
    )  # fmt: skip
