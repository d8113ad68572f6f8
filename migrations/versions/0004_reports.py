"""Evidence and verdicts of reports."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0004_reports"
down_revision = "0003_route"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables, and the trigger that keeps evidence equal to the comparisons."""
    script = Path(__file__).parents[1] / "sql" / "0004_reports.sql"
    op.get_bind().exec_driver_sql(script.read_text(encoding="utf-8").replace("%", "%%"))


def downgrade() -> None:
    """Drop the tables, with what they hold."""
    op.execute("DROP TABLE verdicts")
    op.execute("DROP TRIGGER keep_tick_evidence ON shadow_comparisons")
    op.execute("DROP FUNCTION keep_tick_evidence()")
    op.execute("DROP FUNCTION evidence_steps(text)")
    op.execute("DROP FUNCTION evidence_rules(text)")
    op.execute("DROP TABLE tick_evidence")
    op.drop_column("shadow_comparisons", "candidate_gave_up")
