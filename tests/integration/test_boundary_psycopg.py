"""The psycopg2 adapter, on a real PostgreSQL."""

from __future__ import annotations

from pathlib import Path

from tests.integration.boundary_support import SAMPLES, Probe
from tickover.boundary.child import LegacyProcess


def test_statements_that_write_are_effects_once_committed(empty_database: str, tmp_path: Path) -> None:
    """psycopg2, also under SQLAlchemy: committed INSERT, UPDATE and DELETE are seen, TRUNCATE is named."""
    with LegacyProcess("probe:probe", tmp_path / "home", {"URL": empty_database}, project=[SAMPLES]) as process:
        seen = Probe(process)(
            """
import os, psycopg2
from psycopg2.extras import RealDictCursor
c = psycopg2.connect(os.environ["URL"])
with c, c.cursor() as cursor:
    cursor.execute("CREATE TABLE boundary_t (x int, y text)")
with c, c.cursor(cursor_factory=RealDictCursor) as cursor:
    probe.one(cursor.execute, "INSERT INTO boundary_t (x, y) VALUES (%s, %s) RETURNING x", (1, "a"))
    said = [cursor.fetchone()["x"]]
with c.cursor() as cursor:
    cursor.execute("INSERT INTO boundary_t (x) VALUES (99)")
c.rollback()
c.autocommit = True
with c.cursor() as cursor:
    cursor.executemany("INSERT INTO boundary_t (x) VALUES (%s)", [(2,), (3,)])
    cursor.execute("DELETE FROM boundary_t WHERE x = 3")
    cursor.execute("TRUNCATE boundary_t")
c.close()
from sqlalchemy import create_engine, text
engine = create_engine("postgresql+psycopg2://" + os.environ["URL"].partition("://")[2])
with engine.begin() as connection:
    connection.execute(text("INSERT INTO boundary_t (x) VALUES (:x)"), {"x": 4})
    connection.execute(text("UPDATE boundary_t SET x = 5"))
engine.dispose()
return said
"""
        )
    assert seen.error is None
    assert seen.harness_errors == ()
    assert seen.result == [1]
    found = [(one.effect.step, one.effect.kind, one.effect.payload["rows"]) for one in seen.effects]
    assert found == [
        ("one", "boundary_t", 1),
        ("", "boundary_t", 2),
        ("", "boundary_t.delete", 1),
        ("", "boundary_t", 1),
        ("", "boundary_t.update", 1),
    ]
    assert seen.effects[0].effect.payload["parameters"] == [1, "a"]
    assert "psycopg2: TRUNCATE" in seen.unobserved
    assert "databases: psycopg2 (statements)" in seen.observed
