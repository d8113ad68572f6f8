"""The engine: executions, steps, checkpoints, effects, ticks, outbox, route, and the functions that change them."""

from pathlib import Path

from alembic import op

revision = "0001_engine"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create tables and functions."""
    script = Path(__file__).parents[1] / "sql" / "0001_engine.sql"
    # exec_driver_sql with no parameters: the text's own percent signs and colons stay as they are.
    op.get_bind().exec_driver_sql(script.read_text(encoding="utf-8").replace("%", "%%"))
