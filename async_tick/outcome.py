"""Outcomes: what became of an execution, read from its rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from async_tick.connection import Connection
from tickover.canonical import Json, parse
from tickover.effects import Effect
from tickover.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True, slots=True)
class StepOutcome:
    """How a step ended; immutable. status: done, fallback, failed, not_applicable, or (not ended) waiting, ready,
    running, cancelled. duration_ms: of the last attempt."""

    status: str
    result: Json = None
    error: str | None = None
    attempts: int = 0
    recoveries: int = 0
    started_at: dt.datetime | None = None
    finished_at: dt.datetime | None = None

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


_WORKFLOW = "SELECT id, status, error, state, input, created_at, finished_at FROM workflows WHERE execution_id = %s"
_STEPS = """
SELECT s.step, s.status, s.phase, s.error, s.attempt, s.recoveries, s.started_at, s.finished_at, c.state
FROM step_runs s LEFT JOIN workflow_checkpoints c ON c.workflow_id = s.workflow_id AND c.stage = s.step
WHERE s.workflow_id = %s ORDER BY s.position
"""
_EFFECTS = (
    "SELECT step, position, number, kind, payload, key FROM effects WHERE workflow_id = %s ORDER BY position, number"
)


def read_outcome(connection: Connection, execution_id: str) -> ExecutionOutcome:
    """How an execution stands now. Raises ConfigurationError if there is none of that name."""
    found = connection.rows(_WORKFLOW, (execution_id,))
    if not found:
        raise ConfigurationError(f"there is no execution {execution_id!r}; `tickover checkpoints` lists them")
    row = found[0]
    return ExecutionOutcome(
        execution_id=execution_id, status=row[1], error=row[2], state=parse(row[3]), input=parse(row[4]),
        created_at=row[5], finished_at=row[6],
        steps={step[0]: _step(step) for step in connection.rows(_STEPS, (row[0],))},
        effects=tuple(
            Effect(step=effect[0], position=effect[1], number=effect[2], kind=effect[3], payload=parse(effect[4]),
                   key=effect[5])
            for effect in connection.rows(_EFFECTS, (row[0],))
        ),
    )  # fmt: skip


def _step(row: tuple[Any, ...]) -> StepOutcome:
    status = "fallback" if row[1] == "done" and row[2] == "fallback" else row[1]
    return StepOutcome(
        status=status, error=row[3] if status != "done" else None, attempts=row[4], recoveries=row[5],
        started_at=row[6], finished_at=row[7], result=None if row[8] is None else parse(row[8]),
    )  # fmt: skip
