"""Route: history and holds."""

from __future__ import annotations

revision = "0003_route"
down_revision = "0002_shadow"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""


def downgrade() -> None:
    """Drop the tables, with what they hold."""
