"""Drills and their trials."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005_drills"
down_revision = "0004_reports"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "drills",
        sa.Column("drill", sa.Text, primary_key=True),
        sa.Column("run", sa.Text, nullable=False),
        sa.Column("behaviour_key", sa.Text, nullable=False),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("time_scale", sa.Double, nullable=False),
        sa.Column("is_evidence", sa.Boolean, nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
    )
    op.create_index("ix_drills_behaviour_key", "drills", ["behaviour_key"])
    op.create_table(
        "drill_trials",
        sa.Column("drill", sa.Text, primary_key=True),
        sa.Column("trial", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("step", sa.Text, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("tick", sa.Integer, nullable=False),
        sa.Column("first", sa.Text, nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
    )
    op.create_table(
        "drill_sides",
        sa.Column("drill", sa.Text, primary_key=True),
        sa.Column("trial", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("system", sa.Text, primary_key=True),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("recovered", sa.Boolean, nullable=False),
        sa.Column("seconds", sa.Double),
        sa.Column("judged_s", sa.Double),
        sa.Column("lost", sa.Integer, nullable=False),
        sa.Column("doubled", sa.Integer, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """Drop the tables, with what they hold."""
    for name in ("drill_sides", "drill_trials", "drills"):
        op.drop_table(name)
