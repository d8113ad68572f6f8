"""What rules hid of each tick, step by step."""

from __future__ import annotations

import re
from pathlib import Path

from alembic import op

revision = "0008_hidden"
down_revision = "0007_switchovers"
branch_labels = None
depends_on = None

_SQL = Path(__file__).parents[1] / "sql"


def upgrade() -> None:
    """Add the column, fill it, and have the trigger keep it."""
    op.get_bind().exec_driver_sql((_SQL / "0008_hidden.sql").read_text(encoding="utf-8").replace("%", "%%"))


def downgrade() -> None:
    """Drop the column, and give the trigger back what it did before."""
    before = (_SQL / "0004_reports.sql").read_text(encoding="utf-8")
    found = re.search(r"CREATE (FUNCTION keep_tick_evidence\(\).*?\n\$\$;)", before, flags=re.DOTALL)
    assert found is not None
    op.execute(f"CREATE OR REPLACE {found.group(1)}")
    op.execute("DROP FUNCTION evidence_hidden(text)")
    op.drop_column("tick_evidence", "hidden")
