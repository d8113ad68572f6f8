"""The sqlite3 adapter, on real connections in a real legacy process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.boundary_support import SAMPLES, Probe, effects
from tickover.boundary.child import LegacyProcess

TABLE = """
import sqlite3
c = sqlite3.connect('a.db')
c.execute('CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, x, y UNIQUE)')
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LegacyProcess]:
    with LegacyProcess("probe:probe", tmp_path_factory.mktemp("sqlite") / "home", project=[SAMPLES]) as process:
        yield process


@pytest.fixture
def probe(shared: LegacyProcess) -> Probe:
    for left in Path(shared.home).glob("*.db*"):
        left.unlink()
    return Probe(shared)


def test_an_insert_is_an_effect_without_its_rowid(probe: Probe) -> None:
    """A committed insert is one effect of the table's kind; an INTEGER PRIMARY KEY is left out, bytes are base64."""
    seen = probe(TABLE + "c.execute('INSERT INTO t (x, y) VALUES (?, ?)', (b'\\xff', 1.5)); c.commit()")
    assert effects(seen) == [("", "t", {"x": {"base64": "/w=="}, "y": 1.5})]
    assert seen.harness_errors == ()


def test_what_is_rolled_back_is_no_effect(probe: Probe) -> None:
    """Neither an explicit rollback, nor a context manager that failed, nor closing uncommitted leaves an effect."""
    seen = probe(
        TABLE
        + """
c.execute("INSERT INTO t (x) VALUES (1)"); c.rollback()
try:
    with c:
        c.execute("INSERT INTO t (x) VALUES (2)")
        raise KeyError
except KeyError:
    pass
c.execute("INSERT INTO t (x) VALUES (3)"); c.execute("ROLLBACK")
with c:
    c.execute("INSERT INTO t (x) VALUES (4)")
c.execute("INSERT INTO t (x) VALUES (5)"); c.close()
return sqlite3.connect('a.db').execute("SELECT x FROM t").fetchall()
"""
    )
    assert effects(seen) == [("", "t", {"x": 4, "y": None})]
    assert seen.result == [[4]]
    assert seen.harness_errors == ()


def test_update_delete_and_replace_carry_the_row_before(probe: Probe) -> None:
    """Updates, deletes, REPLACE and upserts are told apart, with the row as it was."""
    seen = probe(
        TABLE
        + """
c.executemany("INSERT INTO t (x, y) VALUES (?, ?)", [(1, 'a'), (2, 'b')])
c.execute("UPDATE t SET x = x + 10")
c.execute("INSERT OR REPLACE INTO t (x, y) VALUES (3, 'a')")
c.execute("INSERT INTO t (x, y) VALUES (4, 'b') ON CONFLICT (y) DO UPDATE SET x = excluded.x")
c.execute("DELETE FROM t WHERE y = 'b'")
c.commit()
"""
    )
    kinds = [(kind, payload) for _, kind, payload in effects(seen)]
    assert kinds == [
        ("t", {"x": 1, "y": "a"}),
        ("t", {"x": 2, "y": "b"}),
        ("t.update", {"before": {"x": 1, "y": "a"}, "after": {"x": 11, "y": "a"}}),
        ("t.update", {"before": {"x": 2, "y": "b"}, "after": {"x": 12, "y": "b"}}),
        ("t.update", {"before": {"x": 11, "y": "a"}, "after": {"x": 3, "y": "a"}}),
        ("t.update", {"before": {"x": 12, "y": "b"}, "after": {"x": 4, "y": "b"}}),
        ("t.delete", {"x": 4, "y": "b"}),
    ]


def test_legacy_sees_the_same_database(probe: Probe) -> None:
    """Row counts, rowids, totals, row factories, iteration and the schema are as they are without the adapter."""
    code = """
import sqlite3
def work(path):
    c = sqlite3.connect(path)
    c.row_factory = sqlite3.Row
    c.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x, y UNIQUE)")
    said = []
    cursor = c.execute("INSERT INTO t (x, y) VALUES (1, 1)")
    said += [cursor.rowcount, cursor.lastrowid, c.in_transaction, cursor.connection is c]
    cursor.executemany("INSERT INTO t (x, y) VALUES (?, ?)", [(n, n) for n in range(2, 9)])
    said += [cursor.rowcount, c.total_changes]
    try:
        c.execute("INSERT INTO t (x, y) VALUES (9, 1)")
    except sqlite3.IntegrityError as error:
        said += [str(error), c.in_transaction]
    c.commit()
    for row in c.execute("SELECT id, x FROM t"):
        c.execute("UPDATE t SET x = ? WHERE id = ?", (row["x"] * 2, row["id"]))
    said += [c.total_changes, [tuple(r) for r in c.execute("SELECT * FROM t")]]
    said += [[tuple(r) for r in c.execute("SELECT type, name FROM sqlite_master")], list(c.iterdump())]
    c.commit()
    said += [c.execute("PRAGMA integrity_check").fetchone()[0], c.isolation_level, isinstance(c, sqlite3.Connection)]
    c.close()
    try:
        c.execute("SELECT 1")
    except sqlite3.ProgrammingError as error:
        said += [str(error)]
    return said
watched, bare = work("b.db"), work(":memory:")
return [watched, bare]
"""
    seen = probe(code)
    assert seen.error is None
    watched, bare = seen.result
    assert watched == bare
    assert len(seen.effects) == 16
    assert seen.harness_errors == ()
    assert seen.unobserved == ()


def test_savepoints_scripts_and_autocommit(probe: Probe) -> None:
    """Changes undone to a savepoint are no effects; scripts and autocommit connections are seen."""
    seen = probe(
        TABLE
        + """
c.commit()
a = sqlite3.connect("a.db", isolation_level=None)
a.execute("INSERT INTO t (x) VALUES ('auto')")
a.execute("BEGIN"); a.execute("INSERT INTO t (x) VALUES ('kept')"); a.execute("SAVEPOINT s")
a.execute("INSERT INTO t (x) VALUES ('undone')"); a.execute("ROLLBACK TO s"); a.execute("RELEASE s")
a.execute("COMMIT")
a.execute("BEGIN"); a.execute("INSERT INTO t (x) VALUES ('gone')"); a.execute("ROLLBACK")
a.executescript("BEGIN; INSERT INTO t (x) VALUES ('script'); COMMIT;")
a.execute("INSERT INTO t (x) VALUES ('after')")
return [x for (x,) in a.execute("SELECT x FROM t")]
"""
    )
    assert seen.result == ["auto", "kept", "script", "after"]
    assert [payload["x"] for _, _, payload in effects(seen)] == ["auto", "kept", "script", "after"]
    assert seen.harness_errors == ()


def test_a_schema_that_changes_is_followed(probe: Probe) -> None:
    """A column added, a table made or dropped, and a rolled back first write leave the adapter watching."""
    seen = probe(
        TABLE
        + """
c.execute("BEGIN"); c.execute("INSERT INTO t (x) VALUES (0)"); c.rollback()
c.execute("INSERT INTO t (x) VALUES (1)"); c.commit()
c.execute("ALTER TABLE t ADD COLUMN z DEFAULT 7")
c.execute("INSERT INTO t (x) VALUES (2)"); c.commit()
c.execute("CREATE TABLE u (k TEXT PRIMARY KEY, v)"); c.execute("INSERT INTO u VALUES ('a', 1)"); c.commit()
c.execute("ALTER TABLE t DROP COLUMN z"); c.execute("DROP TABLE u")
c.execute("INSERT INTO t (x) VALUES (3)"); c.commit()
"""
    )
    assert seen.error is None
    assert [(kind, payload) for _, kind, payload in effects(seen)] == [
        ("t", {"x": 1, "y": None}),
        ("t", {"x": 2, "y": None, "z": 7}),
        ("u", {"k": "a", "v": 1}),
        ("t", {"x": 3, "y": None}),
    ]
    assert seen.harness_errors == ()


def test_own_factories_and_sqlalchemy_are_watched(probe: Probe) -> None:
    """Connection and cursor classes of legacy's own keep their behaviour; SQLAlchemy on SQLite is seen too."""
    seen = probe(
        """
import sqlite3
class Mine(sqlite3.Connection):
    def shout(self): return "mine"
    def execute(self, sql, *rest):
        self.last = sql
        return super().execute(sql, *rest)
class Cursor(sqlite3.Cursor):
    def first(self): return self.fetchone()[0]
c = sqlite3.connect("a.db", factory=Mine)
c.execute("CREATE TABLE t (x)"); c.execute("INSERT INTO t VALUES (1)"); c.commit()
said = [c.shout(), c.last, isinstance(c, Mine), c.cursor(Cursor).execute("SELECT x FROM t").first()]
c.close()
from sqlalchemy import create_engine, text
engine = create_engine("sqlite:///a.db")
with engine.begin() as connection:
    connection.execute(text("INSERT INTO t VALUES (:x)"), [{"x": 2}, {"x": 3}])
engine.dispose()
return said
"""
    )
    assert seen.result == ["mine", "INSERT INTO t VALUES (1)", True, 1]
    assert [payload for _, _, payload in effects(seen)] == [{"x": 1}, {"x": 2}, {"x": 3}]


def test_a_write_belongs_to_the_step_that_made_it(probe: Probe) -> None:
    """Rows of one transaction are told apart by the step in which each statement ran, also in a thread."""
    seen = probe(
        TABLE.replace("'a.db'", "'a.db', check_same_thread=False")
        + """
import threading
probe.two(c.execute, "INSERT INTO t (x) VALUES ('two')")
thread = threading.Thread(target=probe.one, args=(c.execute, "INSERT INTO t (x) VALUES ('one')"))
thread.start(); thread.join()
c.execute("INSERT INTO t (x) VALUES ('none')")
c.commit()
"""
    )
    assert [(step, payload["x"]) for step, _, payload in effects(seen)] == [
        ("one", "one"),
        ("two", "two"),
        ("", "none"),
    ]


def test_what_cannot_be_watched_is_named(probe: Probe) -> None:
    """A connection with an authorizer of its own works as before, and is listed as unobserved."""
    seen = probe(
        TABLE
        + """
c.execute("INSERT INTO t (x) VALUES (1)"); c.commit()
c.set_authorizer(lambda *a: sqlite3.SQLITE_OK)
c.execute("INSERT INTO t (x) VALUES (2)"); c.commit()
return c.execute("SELECT count(*) FROM t").fetchone()[0]
"""
    )
    assert seen.result == 2
    assert [payload["x"] for _, _, payload in effects(seen)] == [1]
    assert seen.unobserved == ("sqlite3 a.db: its own authorizer",)


def test_two_threads_may_share_a_connection(probe: Probe) -> None:
    """A step that was given up writes on in its thread while the next one uses the same connection: neither stops the
    other, cursors dropped anywhere included, and each committed row is an effect."""
    seen = probe(
        TABLE
        + """
import threading
shared = sqlite3.connect('a.db', check_same_thread=False)
refused = []
def work(name):
    for turn in range(400):
        try:
            shared.execute("INSERT INTO t (x) VALUES (?)", (name * 50,))
            shared.execute("SELECT x FROM t ORDER BY id DESC LIMIT 20").fetchall()
            for row in shared.execute("SELECT x FROM t LIMIT 5"):
                break
            shared.commit()
        except sqlite3.Error as error:
            refused.append(str(error))
threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
shared.commit()
return [len(refused), shared.execute("SELECT count(*) FROM t").fetchone()[0]]
"""
    )
    refused, rows = seen.result
    assert rows == 800 - refused
    assert len(effects(seen)) == rows
    assert seen.harness_errors == ()
