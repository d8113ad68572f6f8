"""Drills and their trials."""

from __future__ import annotations

revision = "0005_drills"
down_revision = "0004_reports"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""


def downgrade() -> None:
    """Drop the tables, with what they hold."""
