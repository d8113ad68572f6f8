"""Switchovers with what they rested on, and where the old system's store got a state."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007_switchovers"
down_revision = "0006_guardrails"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column and the table."""
    op.add_column("states", sa.Column("written_to", sa.Text(), nullable=True))
    op.create_table(
        "switchovers",
        sa.Column("epoch", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("home", sa.Text(), nullable=False),
        sa.Column("evidence_run", sa.Text(), nullable=True),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.Column("failed", sa.Text(), nullable=False),
        sa.Column("backup", sa.Text(), nullable=True),
        sa.Column("quiet_hours", sa.Double(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("epoch"),
    )


def downgrade() -> None:
    """Drop them, with what they hold."""
    op.drop_table("switchovers")
    op.drop_column("states", "written_to")
