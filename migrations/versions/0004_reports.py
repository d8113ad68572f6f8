"""Evidence and verdicts of reports."""

from __future__ import annotations

revision = "0004_reports"
down_revision = "0003_route"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""


def downgrade() -> None:
    """Drop the tables, with what they hold."""
