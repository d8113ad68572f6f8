"""Tables of the side-by-side runs. Documents are canonical JSON in text columns, so that equal bytes stay equal."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import BigInteger, Boolean, DateTime, Double, Identity, Index, Integer, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from tickover.ground.database import Base

_NOW = text("now()")
_When = DateTime(timezone=True)


class ShadowRun(Base):
    """A run: its plan, and how far it came. `holder` names the runner that last held it."""

    __tablename__ = "shadow_runs"

    run: Mapped[str] = mapped_column(Text, primary_key=True)
    status: Mapped[str] = mapped_column(Text)
    plan: Mapped[str] = mapped_column(Text)
    graph: Mapped[str] = mapped_column(Text)
    behaviour_key: Mapped[str] = mapped_column(Text)
    judgement_key: Mapped[str] = mapped_column(Text)
    keys: Mapped[str] = mapped_column(Text)
    holder: Mapped[str] = mapped_column(Text)
    surface: Mapped[str] = mapped_column(Text, server_default=text("'{}'"))
    started_at: Mapped[dt.datetime] = mapped_column(_When, server_default=_NOW)
    finished_at: Mapped[dt.datetime | None] = mapped_column(_When)


class ShadowState(Base):
    """A state document, once per run and content."""

    __tablename__ = "shadow_states"

    run: Mapped[str] = mapped_column(Text, primary_key=True)
    digest: Mapped[str] = mapped_column(Text, primary_key=True)
    document: Mapped[str] = mapped_column(Text)


class ShadowTick(Base):
    """A scheduled tick, claimed with a token: exactly one row each. `first` is who began, in paired mode."""

    __tablename__ = "shadow_ticks"

    run: Mapped[str] = mapped_column(Text, primary_key=True)
    tick: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    token: Mapped[str] = mapped_column(Text)
    due_at: Mapped[dt.datetime] = mapped_column(_When)
    claimed_at: Mapped[dt.datetime] = mapped_column(_When, server_default=_NOW)
    late_ms: Mapped[float] = mapped_column(Double, server_default=text("0"))
    overran: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    first: Mapped[str] = mapped_column(Text)
    state_before: Mapped[str | None] = mapped_column(Text)
    stratum: Mapped[str | None] = mapped_column(Text)


class ShadowObservation(Base):
    """What one system did with one tick, written once."""

    __tablename__ = "shadow_observations"
    __table_args__ = (Index("ix_shadow_observations_tick", "run", "tick"),)

    execution_id: Mapped[str] = mapped_column(Text, primary_key=True)
    run: Mapped[str] = mapped_column(Text)
    tick: Mapped[int] = mapped_column(Integer)
    system: Mapped[str] = mapped_column(Text)
    purpose: Mapped[str] = mapped_column(Text)
    outcome: Mapped[str] = mapped_column(Text)
    duration_ms: Mapped[float] = mapped_column(Double)
    state_after: Mapped[str | None] = mapped_column(Text)
    document: Mapped[str] = mapped_column(Text)
    created_at: Mapped[dt.datetime] = mapped_column(_When, server_default=_NOW)


class ShadowLateEffect(Base):
    """What a system did after its observation was made: effects and steps of a tick that it had given up."""

    __tablename__ = "shadow_late_effects"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    execution_id: Mapped[str] = mapped_column(Text, index=True)
    run: Mapped[str] = mapped_column(Text)
    tick: Mapped[int] = mapped_column(Integer)
    seen_in_tick: Mapped[int] = mapped_column(Integer)
    document: Mapped[str] = mapped_column(Text)
    created_at: Mapped[dt.datetime] = mapped_column(_When, server_default=_NOW)


class ShadowComparison(Base):
    """The comparison of a tick: exactly one row each."""

    __tablename__ = "shadow_comparisons"
    __table_args__ = (Index("ix_shadow_comparisons_kind", "run", "kind"),)

    run: Mapped[str] = mapped_column(Text, primary_key=True)
    tick: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    stratum: Mapped[str | None] = mapped_column(Text)
    control_outcome: Mapped[str | None] = mapped_column(Text)
    candidate_outcome: Mapped[str | None] = mapped_column(Text)
    control_ms: Mapped[float | None] = mapped_column(Double)
    candidate_ms: Mapped[float | None] = mapped_column(Double)
    control_gave_up: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    candidate_gave_up: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    steps: Mapped[str] = mapped_column(Text)
    document: Mapped[str] = mapped_column(Text)
    behaviour_key: Mapped[str] = mapped_column(Text)
    judgement_key: Mapped[str] = mapped_column(Text)
    created_at: Mapped[dt.datetime] = mapped_column(_When, server_default=_NOW)


class ShadowNoise(Base):
    """A step of a tick that the old system ran twice: whether it differs from itself, and the new one from it."""

    __tablename__ = "shadow_noise"

    run: Mapped[str] = mapped_column(Text, primary_key=True)
    tick: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    step: Mapped[str] = mapped_column(Text, primary_key=True)
    old_differs: Mapped[bool] = mapped_column(Boolean)
    new_differs: Mapped[bool] = mapped_column(Boolean)
    places: Mapped[str] = mapped_column(Text)


class ShadowAttribution(Base):
    """A step at which the two part in a tick; findings are counted from these."""

    __tablename__ = "shadow_attributions"
    __table_args__ = (Index("ix_shadow_attributions_signature", "run", "signature"),)

    run: Mapped[str] = mapped_column(Text, primary_key=True)
    tick: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    step: Mapped[str] = mapped_column(Text, primary_key=True)
    signature: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    atoms: Mapped[str] = mapped_column(Text)


class TapeRow(Base):
    """A recorded port call; SQL on it lives in tickover.ground.tape_store, which workers use without this package."""

    __tablename__ = "tape_entries"
    __table_args__ = (
        UniqueConstraint("run", "tick", "step", "request_hash", "occurrence", "attempt", "recorded_by"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    run: Mapped[str] = mapped_column(Text)
    tick: Mapped[int] = mapped_column(Integer)
    step: Mapped[str] = mapped_column(Text)
    port: Mapped[str] = mapped_column(Text)
    method: Mapped[str] = mapped_column(Text)
    request: Mapped[str] = mapped_column(Text)
    request_hash: Mapped[str] = mapped_column(Text)
    occurrence: Mapped[int] = mapped_column(Integer)
    attempt: Mapped[int] = mapped_column(Integer)
    answer: Mapped[str] = mapped_column(Text)
    error: Mapped[str | None] = mapped_column(Text)
    latency_ms: Mapped[float] = mapped_column(Double)
    recorded_by: Mapped[str] = mapped_column(Text)
    execution_id: Mapped[str | None] = mapped_column(Text)
    missed: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))


class Switchover(Base):
    """A move to the new system, by the epoch that it began: of which loop and home, on what evidence, which checks
    failed (canonical JSON, names) although it was forced, and where its backup is (None: none was made). verdict:
    None where there was no evidence. quiet_hours: of the policy, how long what is left over was to be kept."""

    __tablename__ = "switchovers"

    epoch: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    run: Mapped[str] = mapped_column(Text)
    home: Mapped[str] = mapped_column(Text)
    evidence_run: Mapped[str | None] = mapped_column(Text)
    policy: Mapped[str] = mapped_column(Text)
    verdict: Mapped[str | None] = mapped_column(Text)
    failed: Mapped[str] = mapped_column(Text)
    backup: Mapped[str | None] = mapped_column(Text)
    quiet_hours: Mapped[float] = mapped_column(Double)
    created_at: Mapped[dt.datetime] = mapped_column(_When, server_default=_NOW)


class Drill(Base):
    """A drill: its plan, and the run whose behaviour it is evidence of. One that only looks again at a trial is
    none."""

    __tablename__ = "drills"

    drill: Mapped[str] = mapped_column(Text, primary_key=True)
    run: Mapped[str] = mapped_column(Text)
    behaviour_key: Mapped[str] = mapped_column(Text, index=True)
    plan: Mapped[str] = mapped_column(Text)
    time_scale: Mapped[float] = mapped_column(Double)
    is_evidence: Mapped[bool] = mapped_column(Boolean)
    started_at: Mapped[dt.datetime] = mapped_column(_When, server_default=_NOW)
    finished_at: Mapped[dt.datetime | None] = mapped_column(_When)


class DrillTrial(Base):
    """A trial that was begun; `first` is the system that went first."""

    __tablename__ = "drill_trials"

    drill: Mapped[str] = mapped_column(Text, primary_key=True)
    trial: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(Text)
    step: Mapped[str] = mapped_column(Text)
    seed: Mapped[int] = mapped_column(BigInteger)
    tick: Mapped[int] = mapped_column(Integer)
    first: Mapped[str] = mapped_column(Text)
    started_at: Mapped[dt.datetime] = mapped_column(_When, server_default=_NOW)


class DrillSide(Base):
    """What one system did in a trial; a system without a counterpart of the fault has no row."""

    __tablename__ = "drill_sides"

    drill: Mapped[str] = mapped_column(Text, primary_key=True)
    trial: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    system: Mapped[str] = mapped_column(Text, primary_key=True)
    outcome: Mapped[str] = mapped_column(Text)
    recovered: Mapped[bool] = mapped_column(Boolean)
    seconds: Mapped[float | None] = mapped_column(Double)
    judged_s: Mapped[float | None] = mapped_column(Double)
    lost: Mapped[int] = mapped_column(Integer)
    doubled: Mapped[int] = mapped_column(Integer)
    document: Mapped[str] = mapped_column(Text)
