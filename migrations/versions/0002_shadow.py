"""Tables of the side-by-side runs and of the tape."""

import sqlalchemy as sa
from alembic import op

revision = "0002_shadow"
down_revision = "0001_engine"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "shadow_attributions",
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("tick", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("atoms", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run", "tick", "step"),
    )
    op.create_index("ix_shadow_attributions_signature", "shadow_attributions", ["run", "signature"], unique=False)
    op.create_table(
        "shadow_comparisons",
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("tick", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("stratum", sa.Text(), nullable=True),
        sa.Column("control_outcome", sa.Text(), nullable=True),
        sa.Column("candidate_outcome", sa.Text(), nullable=True),
        sa.Column("control_ms", sa.Double(), nullable=True),
        sa.Column("candidate_ms", sa.Double(), nullable=True),
        sa.Column("control_gave_up", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("steps", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("behaviour_key", sa.Text(), nullable=False),
        sa.Column("judgement_key", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("run", "tick"),
    )
    op.create_index("ix_shadow_comparisons_kind", "shadow_comparisons", ["run", "kind"], unique=False)
    op.create_table(
        "shadow_late_effects",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("execution_id", sa.Text(), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("tick", sa.Integer(), nullable=False),
        sa.Column("seen_in_tick", sa.Integer(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        op.f("ix_shadow_late_effects_execution_id"), "shadow_late_effects", ["execution_id"], unique=False
    )
    op.create_table(
        "shadow_observations",
        sa.Column("execution_id", sa.Text(), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("tick", sa.Integer(), nullable=False),
        sa.Column("system", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("duration_ms", sa.Double(), nullable=False),
        sa.Column("state_after", sa.Text(), nullable=True),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("execution_id"),
    )
    op.create_index("ix_shadow_observations_tick", "shadow_observations", ["run", "tick"], unique=False)
    op.create_table(
        "shadow_runs",
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("graph", sa.Text(), nullable=False),
        sa.Column("behaviour_key", sa.Text(), nullable=False),
        sa.Column("judgement_key", sa.Text(), nullable=False),
        sa.Column("keys", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("surface", sa.Text(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("run"),
    )
    op.create_table(
        "shadow_states",
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run", "digest"),
    )
    op.create_table(
        "shadow_noise",
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("tick", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("old_differs", sa.Boolean(), nullable=False),
        sa.Column("new_differs", sa.Boolean(), nullable=False),
        sa.Column("places", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run", "tick", "step"),
    )
    op.create_table(
        "shadow_ticks",
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("tick", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("late_ms", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("overran", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("first", sa.Text(), nullable=False),
        sa.Column("state_before", sa.Text(), nullable=True),
        sa.Column("stratum", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("run", "tick"),
    )
    op.create_table(
        "tape_entries",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("tick", sa.Integer(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("port", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("request_hash", sa.Text(), nullable=False),
        sa.Column("occurrence", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("latency_ms", sa.Double(), nullable=False),
        sa.Column("recorded_by", sa.Text(), nullable=False),
        sa.Column("execution_id", sa.Text(), nullable=True),
        sa.Column("missed", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("run", "tick", "step", "request_hash", "occurrence", "attempt", "recorded_by"),
    )


def downgrade() -> None:
    """Drop the tables, with what they hold."""
    op.drop_table("tape_entries")
    op.drop_table("shadow_ticks")
    op.drop_table("shadow_noise")
    op.drop_table("shadow_states")
    op.drop_table("shadow_runs")
    op.drop_table("shadow_observations")
    op.drop_table("shadow_late_effects")
    op.drop_table("shadow_comparisons")
    op.drop_table("shadow_attributions")
