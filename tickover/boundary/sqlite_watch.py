"""What one sqlite3 connection changes: temporary triggers hand each changed row to a function in this process.

Temporary triggers are the connection's own: nothing is written to the database file, and `changes()`, `rowcount`,
`lastrowid` and `total_changes` stay as they were. They are made on the first statement that writes, and again when
the schema has changed.
"""

from __future__ import annotations

import base64
import re
import sqlite3
from typing import Any

from tickover.boundary.session import Book, current, guarded, session
from tickover.workflow import Write

# The function that triggers call, and the prefix of their names.
_NOTE = "tickover_note"

# Row changes of one transaction that are noted; what is over it is named as unobserved, not held in memory.
MAX_CHANGES = 10_000

# SQLite's limit of arguments of a function, less the two that say what happened.
_MAX_VALUES = 125

_HEAD = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/|\()*([a-zA-Z]+)(?:\s+([a-zA-Z]+))?(?:\s+([^\s;]+))?", re.DOTALL)
_WRITES = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE", "WITH"})
_SCHEMA = frozenset({"CREATE", "ALTER", "DROP", "VACUUM", "ATTACH", "DETACH", "REINDEX", "ANALYZE"})


class _Change:
    """A row change of a transaction that is still open."""

    __slots__ = ("before", "book", "number", "op", "row", "table")

    def __init__(self, book: Book, table: _Table, op: str, row: Any, before: Any) -> None:
        self.book, self.table, self.op, self.row, self.before = book, table, op, row, before
        self.number = session.next_number()


class _Table:
    """What is known of a table: its columns, and which one is another name of the rowid."""

    def __init__(self, name: str, columns: list[str], rowid: str | None, unique: list[list[str]]) -> None:
        self.name, self.columns, self.rowid, self.unique = name, columns, rowid, unique


class Watch:
    """The changes of one connection; mutable."""

    def __init__(self, connection: sqlite3.Connection, label: str) -> None:
        self._label = label
        self._tables: dict[str, _Table] = {}
        self._schema_version: int | None = None
        self._replaces = False
        self._blind = False
        self.changes: list[_Change] = []
        self._replaced: list[tuple[str, dict[str, Any]]] = []
        self._savepoints: list[tuple[str, int]] = []
        with guarded("sqlite3"):
            sqlite3.Connection.create_function(connection, _NOTE, -1, self._note)

    def _note(self, table_name: str, op: str, *values: Any) -> None:
        book = current()
        if book is None:
            return
        if len(self.changes) >= MAX_CHANGES:
            book.recorder.unobserved[f"sqlite3 {self._label}: over {MAX_CHANGES} row changes in a transaction"] = None
            return
        with guarded("sqlite3"):
            table = self._tables[table_name]
            width = len(table.columns)
            row = _row(table.columns, values[:width])
            if op == "replaced":
                self._replaced.append((table_name, row))
            elif op == "update":
                self.changes.append(_Change(book, table, op, row, _row(table.columns, values[width:])))
            elif op == "delete":
                self.changes.append(_Change(book, table, op, None, row))
            else:
                before = self._taken(table, row)
                self.changes.append(_Change(book, table, "insert" if before is None else "update", row, before))

    def _taken(self, table: _Table, row: dict[str, Any]) -> dict[str, Any] | None:
        for place, (name, old) in enumerate(self._replaced):
            if name == table.name and any(all(old[c] == row[c] for c in key) for key in table.unique):
                del self._replaced[place]
                return old
        return None

    def before(self, connection: sqlite3.Connection, sql: str, book: Book | None) -> tuple[str, str, str]:
        """A statement is about to run in this book. Returns its first words, in capitals."""
        found = _HEAD.match(sql)
        words = (found[1].upper(), (found[2] or "").upper(), found[3] or "") if found else ("", "", "")
        if words[0] in _WRITES and book is not None and not self._blind:
            replaces = words[0] == "REPLACE" or (words[0] == "INSERT" and "REPLACE" in sql[:200].upper())
            self._watch_tables(connection, replaces or self._replaces, book)
        elif words[0] == "ALTER" and self._tables:
            self._forget_tables(connection)
        self._replaced.clear()
        return words

    def after(
        self, connection: sqlite3.Connection, words: tuple[str, str, str], mark: int, book: Book | None, failed: bool
    ) -> None:
        """A statement has run, or failed: what became of its changes, and of the transaction."""
        if failed:
            del self.changes[mark:]
            if not connection.in_transaction:
                self.rolled_back()
            return
        head, second, third = words
        if head == "SAVEPOINT":
            self._savepoints.append((second.lower(), len(self.changes)))
        elif head == "ROLLBACK":
            target = (third if second == "TO" else "").lower()
            self._roll_back_to(target.removeprefix("savepoint").strip() or None)
        elif head in _SCHEMA:
            self._schema_version = None
            if head == "ATTACH" and book is not None:
                book.recorder.unobserved[f"sqlite3 {self._label}: an attached database"] = None
        if not connection.in_transaction:
            self.committed()

    def _roll_back_to(self, savepoint: str | None) -> None:
        self._schema_version = None
        if savepoint is None:
            self.rolled_back()
            return
        for place in range(len(self._savepoints) - 1, -1, -1):
            name, mark = self._savepoints[place]
            if name == savepoint:
                del self.changes[mark:], self._savepoints[place + 1 :]
                return

    def committed(self) -> None:
        """The transaction was committed: its changes are writes now."""
        changes, self.changes = self.changes, []
        self._savepoints.clear()
        for change in changes:
            table = change.table
            write = Write(door="sqlite", target=table.name, op=change.op, row=change.row, before=change.before)
            change.book.recorder.write(change.book, write, rowid=table.rowid, number=change.number)

    def rolled_back(self) -> None:
        """The transaction never happened, and triggers made in it are gone."""
        self.changes.clear()
        self._savepoints.clear()
        self._schema_version = None

    def blind(self, connection: sqlite3.Connection, why: str, book: Book | None, *, for_good: bool = True) -> None:
        """Stop watching this connection until the next write, or for good, and say so."""
        self._forget_tables(connection)
        self._blind = self._blind or for_good
        if book is not None:
            book.recorder.unobserved[f"sqlite3 {self._label}: {why}"] = None

    def _forget_tables(self, connection: sqlite3.Connection) -> None:
        for (name,) in _read(connection, f"SELECT name FROM temp.sqlite_master WHERE name LIKE '{_NOTE}%'"):
            _run(connection, f"DROP TRIGGER temp.{_quoted(name)}")
        self._schema_version = None
        self._tables = {}

    def _watch_tables(self, connection: sqlite3.Connection, replaces: bool, book: Book) -> None:
        version = _read(connection, "PRAGMA main.schema_version")[0][0]
        if version == self._schema_version and replaces == self._replaces:
            return
        try:
            for name, sql in _read(connection, "SELECT name, sql FROM main.sqlite_master WHERE type = 'table'"):
                if name.startswith("sqlite_"):
                    continue
                if (sql or "").upper().startswith("CREATE VIRTUAL"):
                    book.recorder.unobserved[f"sqlite3 {self._label}: virtual table {name}"] = None
                    continue
                self._watch_table(connection, name, replaces)
            self._schema_version, self._replaces = version, replaces
        except sqlite3.Error as error:
            self.blind(connection, str(error), book)

    def _watch_table(self, connection: sqlite3.Connection, name: str, replaces: bool) -> None:
        table = _describe(connection, name)
        self._tables[name] = table
        if len(table.columns) * 2 > _MAX_VALUES:
            raise sqlite3.NotSupportedError(f"table {name} has too many columns to be watched")
        new = ", ".join(f"NEW.{_quoted(column)}" for column in table.columns)
        old = ", ".join(f"OLD.{_quoted(column)}" for column in table.columns)
        triggers = {"insert": ("AFTER INSERT", new), "update": ("AFTER UPDATE", f"{new}, {old}")}
        triggers["delete"] = ("AFTER DELETE", old)
        for op, (when, values) in triggers.items():
            call = f"SELECT {_NOTE}({_literal(name)}, '{op}', {values})"
            _trigger(connection, name, op, when, call)
        if replaces and table.unique:
            same = " OR ".join(
                "(" + " AND ".join(f"{_quoted(column)} = NEW.{_quoted(column)}" for column in key) + ")"
                for key in table.unique
            )
            values = ", ".join(_quoted(column) for column in table.columns)
            call = f"SELECT {_NOTE}({_literal(name)}, 'replaced', {values}) FROM {_quoted(name)} WHERE {same}"
            _trigger(connection, name, "replaced", "BEFORE INSERT", call)


def _describe(connection: sqlite3.Connection, name: str) -> _Table:
    info = _read(connection, f"PRAGMA main.table_info({_quoted(name)})")
    columns = [row[1] for row in info]
    primary = [row for row in sorted(info, key=lambda row: row[5]) if row[5]]
    rowid = primary[0][1] if len(primary) == 1 and str(primary[0][2]).upper() == "INTEGER" else None
    unique = [[row[1] for row in primary]] if primary else []
    for index in _read(connection, f"PRAGMA main.index_list({_quoted(name)})"):
        if index[2] and not index[4]:
            key = [row[2] for row in _read(connection, f"PRAGMA main.index_info({_quoted(index[1])})")]
            if None not in key and key not in unique:
                unique.append(key)
    return _Table(name, columns, rowid, unique)


def _trigger(connection: sqlite3.Connection, table: str, op: str, when: str, call: str) -> None:
    name = _quoted(f"{_NOTE}_{op}_{table}")
    _run(connection, f"CREATE TEMP TRIGGER IF NOT EXISTS {name} {when} ON main.{_quoted(table)} BEGIN {call}; END")


def _run(connection: sqlite3.Connection, sql: str) -> None:
    sqlite3.Cursor.execute(sqlite3.Connection.cursor(connection, sqlite3.Cursor), sql)


def _read(connection: sqlite3.Connection, sql: str) -> list[Any]:
    cursor = sqlite3.Connection.cursor(connection, sqlite3.Cursor)
    cursor.row_factory = None
    return sqlite3.Cursor.execute(cursor, sql).fetchall()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _row(columns: list[str], values: tuple[Any, ...]) -> dict[str, Any]:
    return {column: _plain(value) for column, value in zip(columns, values, strict=True)}


def _plain(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode("ascii")} if isinstance(value, bytes) else value
