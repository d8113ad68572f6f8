"""Tables of the reports: evidence, one narrow row a tick, and the verdicts that were given."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import ARRAY, BigInteger, Boolean, DateTime, Double, Identity, Index, Integer, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from tickover.ground.database import Base

_When = DateTime(timezone=True)


class TickEvidence(Base):
    """What a report counts of a compared tick. A trigger keeps it equal to the comparison; nothing else writes it.

    steps: a letter for each step, steps in the order of their bytes: E equal, D differs, C consequence, N not
    applicable, - not compared; empty where nothing was compared. rules: names of those that hid something, or None.
    hidden: what they hid, as `shadow.hidden.Hidden` writes it, or None.
    """

    __tablename__ = "tick_evidence"
    __table_args__ = (
        Index(
            "ix_tick_evidence_unequal", "run", "tick",
            postgresql_include=["kind"], postgresql_where=text("kind <> 'match'"),
        ),
    )  # fmt: skip

    run: Mapped[str] = mapped_column(Text, primary_key=True)
    tick: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(Text)
    stratum: Mapped[str | None] = mapped_column(Text)
    control_outcome: Mapped[str | None] = mapped_column(Text)
    candidate_outcome: Mapped[str | None] = mapped_column(Text)
    control_gave_up: Mapped[bool] = mapped_column(Boolean)
    candidate_gave_up: Mapped[bool] = mapped_column(Boolean)
    control_ms: Mapped[float | None] = mapped_column(Double)
    candidate_ms: Mapped[float | None] = mapped_column(Double)
    steps: Mapped[str] = mapped_column(Text)
    rules: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    compared_at: Mapped[dt.datetime] = mapped_column(_When)
    hidden: Mapped[str | None] = mapped_column(Text)


class Verdict(Base):
    """A verdict with all that it takes to compute it again. `inputs` holds evidence, policy and versions, `outcome`
    what was judged, both as canonical JSON."""

    __tablename__ = "verdicts"
    __table_args__ = (
        Index("ix_verdicts_run", "run", "id"),
        Index("ix_verdicts_keys", "behaviour_key", "judgement_key", "status"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    run: Mapped[str] = mapped_column(Text)
    behaviour_key: Mapped[str] = mapped_column(Text)
    judgement_key: Mapped[str] = mapped_column(Text)
    policy_name: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text)
    inputs: Mapped[str] = mapped_column(Text)
    inputs_digest: Mapped[str] = mapped_column(Text)
    outcome: Mapped[str] = mapped_column(Text)
    created_at: Mapped[dt.datetime] = mapped_column(_When, server_default=text("now()"))
