"""Guardrails on the route and in its history, what they are read against on each tick, and what ran beside it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006_guardrails"
down_revision = "0005_drills"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, and the index that finds the first ticks of an epoch."""
    op.add_column("route", sa.Column("guardrails", sa.Text(), nullable=True))
    op.add_column("route_history", sa.Column("guardrails", sa.Text(), nullable=True))
    op.add_column("ticks", sa.Column("interval_ms", sa.Double(), nullable=True))
    op.add_column("ticks", sa.Column("beside", sa.Text(), nullable=True))
    op.add_column("ticks", sa.Column("comparison", sa.Text(), nullable=True))
    op.create_index("ix_ticks_epoch", "ticks", ["run", "epoch", "tick"])


def downgrade() -> None:
    """Drop them, with what they hold."""
    op.drop_index("ix_ticks_epoch", "ticks")
    op.drop_column("ticks", "comparison")
    op.drop_column("ticks", "beside")
    op.drop_column("ticks", "interval_ms")
    op.drop_column("route_history", "guardrails")
    op.drop_column("route", "guardrails")
