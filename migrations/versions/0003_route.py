"""Route: history and holds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003_route"
down_revision = "0002_shadow"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables; the history begins with the route as it stands."""
    op.create_table(
        "route_history",
        sa.Column("epoch", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("epoch"),
    )
    op.create_table(
        "route_holds",
        sa.Column("number", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("released_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("number"),
    )
    op.execute(
        "INSERT INTO route_history (epoch, owner, author, reason, changed_at) "
        "SELECT epoch, owner, author, reason, changed_at FROM route"
    )


def downgrade() -> None:
    """Drop the tables, with what they hold."""
    op.drop_table("route_holds")
    op.drop_table("route_history")
