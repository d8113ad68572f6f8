"""The engine's tables, for reading and for the schema check; what changes them are the functions of
`async_tick.sql`."""

from __future__ import annotations

import datetime as dt
import uuid

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from tickover.ground.database import Base, SessionLocal

__all__ = [
    "EffectRow", "OutboxRow", "Route", "SessionLocal", "StateDocument", "StepRun", "Tick", "WorkflowCheckpoint",
    "WorkflowRow",
]  # fmt: skip

_When = DateTime(timezone=True)
_NOW = text("now()")
_ID = Identity(always=True)


class WorkflowRow(Base):
    """One execution of a tick: what it started from and how it stands (running, done, failed)."""

    __tablename__ = "workflows"
    __table_args__ = (
        Index("ix_workflows_run_tick", "run", "tick"),
        Index("ix_workflows_running", "id", postgresql_where=text("status = 'running'")),
    )

    id: Mapped[int] = mapped_column(BigInteger, _ID, primary_key=True)
    execution_id: Mapped[str] = mapped_column(Text, unique=True)
    run: Mapped[str] = mapped_column(Text)
    tick: Mapped[int] = mapped_column(Integer)
    system: Mapped[str] = mapped_column(Text)
    purpose: Mapped[str] = mapped_column(Text)
    pass_: Mapped[int] = mapped_column("pass", Integer)
    workflow: Mapped[str] = mapped_column(Text)
    version: Mapped[str] = mapped_column(Text)
    input: Mapped[str] = mapped_column(Text)
    input_hash: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)
    harness: Mapped[str | None] = mapped_column(Text)
    started_at: Mapped[dt.datetime] = mapped_column(_When)
    time_scale: Mapped[float] = mapped_column(Double)
    status: Mapped[str] = mapped_column(Text)
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[dt.datetime] = mapped_column(_When)
    finished_at: Mapped[dt.datetime | None] = mapped_column(_When)


class StepRun(Base):
    """A step of an execution.

    status: waiting, ready, running, done, failed, not_applicable or cancelled. phase: run, or fallback when all
    attempts failed. diverged: doors ("now", "random", "ids") at which it drew otherwise than what it was to follow.
    """

    __tablename__ = "step_runs"
    __table_args__ = (
        Index("ix_step_runs_hint_due", "hint_due", postgresql_where=text("status = 'ready'")),
        Index("ix_step_runs_running", "lease_until", postgresql_where=text("status = 'running'")),
    )

    workflow_id: Mapped[int] = mapped_column(ForeignKey("workflows.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[str] = mapped_column(Text, primary_key=True)
    position: Mapped[int] = mapped_column(Integer)
    queue: Mapped[str] = mapped_column(Text)
    critical: Mapped[bool] = mapped_column(Boolean)
    needs: Mapped[list[str]] = mapped_column(ARRAY(Text))
    phase: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text)
    attempt: Mapped[int] = mapped_column(Integer)
    recoveries: Mapped[int] = mapped_column(Integer)
    token: Mapped[uuid.UUID | None] = mapped_column(Uuid)
    owner: Mapped[int | None] = mapped_column(Integer)
    lease_until: Mapped[dt.datetime | None] = mapped_column(_When)
    deadline: Mapped[dt.datetime | None] = mapped_column(_When)
    run_at: Mapped[dt.datetime | None] = mapped_column(_When)
    hint_due: Mapped[dt.datetime | None] = mapped_column(_When)
    hints: Mapped[int] = mapped_column(Integer)
    started_at: Mapped[dt.datetime | None] = mapped_column(_When)
    finished_at: Mapped[dt.datetime | None] = mapped_column(_When)
    error: Mapped[str | None] = mapped_column(Text)
    diverged: Mapped[list[str] | None] = mapped_column(ARRAY(Text))


class WorkflowCheckpoint(Base):
    """The result of a finished step, as canonical JSON: what a tick resumes from. One per execution and stage."""

    __tablename__ = "workflow_checkpoints"

    workflow_id: Mapped[int] = mapped_column(ForeignKey("workflows.id", ondelete="CASCADE"), primary_key=True)
    stage: Mapped[str] = mapped_column(Text, primary_key=True)
    tick_number: Mapped[int] = mapped_column(Integer)
    state: Mapped[str] = mapped_column(Text)
    created_at: Mapped[dt.datetime] = mapped_column(_When)


class EffectRow(Base):
    """An effect that an execution declared."""

    __tablename__ = "effects"

    workflow_id: Mapped[int] = mapped_column(ForeignKey("workflows.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    step: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    key: Mapped[str] = mapped_column(Text)
    payload: Mapped[str] = mapped_column(Text)


class Tick(Base):
    """A tick that counts: who owns it, under which epoch, and what became of it (done, failed, lost).

    claimed_at: when its present runner began it. interval_ms: of the schedule it stood in, 0 for back to back.
    beside: name of the run in which the other system runs beside it, None where none does. comparison: what that came
    to, as `shadow` names it; None where it is not known yet.
    """

    __tablename__ = "ticks"
    __table_args__ = (Index("ix_ticks_epoch", "run", "epoch", "tick"),)

    run: Mapped[str] = mapped_column(Text, primary_key=True)
    tick: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    owner: Mapped[str] = mapped_column(Text)
    runner_token: Mapped[uuid.UUID] = mapped_column(Uuid)
    epoch: Mapped[int] = mapped_column(BigInteger)
    execution_id: Mapped[str] = mapped_column(Text)
    outcome: Mapped[str | None] = mapped_column(Text)
    overran: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    claimed_at: Mapped[dt.datetime] = mapped_column(_When, server_default=_NOW)
    adopted_at: Mapped[dt.datetime | None] = mapped_column(_When)
    interval_ms: Mapped[float | None] = mapped_column(Double)
    beside: Mapped[str | None] = mapped_column(Text)
    comparison: Mapped[str | None] = mapped_column(Text)


class StateDocument(Base):
    """The state that a tick left behind. written_to: the home whose store got it, None while none did."""

    __tablename__ = "states"

    run: Mapped[str] = mapped_column(Text, primary_key=True)
    tick: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    document: Mapped[str] = mapped_column(Text)
    created_at: Mapped[dt.datetime] = mapped_column(_When, server_default=_NOW)
    written_to: Mapped[str | None] = mapped_column(Text)


class OutboxRow(Base):
    """An adopted effect on its way out."""

    __tablename__ = "outbox"
    __table_args__ = (
        UniqueConstraint("run", "tick", "step", "key"),
        Index("ix_outbox_pending", "id", postgresql_where=text("delivered_at IS NULL")),
    )

    id: Mapped[int] = mapped_column(BigInteger, _ID, primary_key=True)
    run: Mapped[str] = mapped_column(Text)
    tick: Mapped[int] = mapped_column(Integer)
    step: Mapped[str] = mapped_column(Text)
    position: Mapped[int] = mapped_column(Integer)
    number: Mapped[int] = mapped_column(Integer)
    kind: Mapped[str] = mapped_column(Text)
    key: Mapped[str] = mapped_column(Text)
    payload: Mapped[str] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    error: Mapped[str | None] = mapped_column(Text)
    delivered_at: Mapped[dt.datetime | None] = mapped_column(_When)


class Route(Base):
    """Which system is in charge: one row. The epoch grows with each change and fences old writers."""

    __tablename__ = "route"
    __table_args__ = (CheckConstraint("id = 1", name="route_id_check"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    owner: Mapped[str] = mapped_column(Text)
    epoch: Mapped[int] = mapped_column(BigInteger)
    holds: Mapped[int] = mapped_column(Integer)
    author: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    changed_at: Mapped[dt.datetime] = mapped_column(_When, server_default=_NOW)
    guardrails: Mapped[str | None] = mapped_column(Text)


class RouteChange(Base):
    """A route that there was: one row for each epoch."""

    __tablename__ = "route_history"

    epoch: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    owner: Mapped[str] = mapped_column(Text)
    author: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    changed_at: Mapped[dt.datetime] = mapped_column(_When)
    guardrails: Mapped[str | None] = mapped_column(Text)


class RouteHold(Base):
    """Somebody's wish that the route should not move to the new system."""

    __tablename__ = "route_holds"

    number: Mapped[int] = mapped_column(BigInteger, _ID, primary_key=True)
    author: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    created_at: Mapped[dt.datetime] = mapped_column(_When, server_default=_NOW)
    released_at: Mapped[dt.datetime | None] = mapped_column(_When)
