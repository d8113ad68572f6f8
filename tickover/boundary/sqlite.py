"""sqlite3: row changes, as writes that exist once they are committed.

Connections and cursors that legacy gets are of subclasses (of its own classes, where it names them) that tell the
connection's `Watch` what is run.

The watch is called from within SQLite, for which it needs the interpreter while SQLite holds the connection's mutex.
A second thread on the same connection (a step that was given up goes on in its thread) that holds the interpreter and
asks SQLite for that mutex would stop the process for good: each waits for what the other has. So one thread at a time
uses a watched connection. SQLite lets in no more either, so nothing takes longer.
"""

from __future__ import annotations

import functools
import os
import sqlite3
import sqlite3.dbapi2
import threading
from typing import Any

from tickover.boundary.files import sqlite_files
from tickover.boundary.session import current, guarded, session
from tickover.boundary.sqlite_watch import Watch


class _Turn:
    """The right to use a connection, one thread at a time. `left` holds cursors that were dropped by a thread without
    it, until one that has it lets them go: dropping a cursor calls SQLite too, and must not wait."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.left: list[Any] = []

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, *error: object) -> None:
        try:
            self.left.clear()
        finally:
            self.lock.release()


def _turn(connection: Any) -> _Turn:
    turn: _Turn = connection.__dict__.get("tickover_turn") or connection.__dict__.setdefault("tickover_turn", _Turn())
    return turn


class _WatchedCursor(sqlite3.Cursor):
    def execute(self, sql: str, *args: Any) -> Any:
        with _turn(self.connection):
            return _observed(self.connection, sql, super().execute, sql, *args)

    def executemany(self, sql: str, *args: Any) -> Any:
        with _turn(self.connection):
            return _observed(self.connection, sql, super().executemany, sql, *args)

    def executescript(self, sql: str) -> Any:
        with _turn(self.connection):
            return _observed_script(self.connection, sql, super().executescript)

    def fetchone(self) -> Any:
        with _turn(self.connection):
            return super().fetchone()

    def fetchmany(self, *args: Any, **kwargs: Any) -> Any:
        with _turn(self.connection):
            return super().fetchmany(*args, **kwargs)

    def fetchall(self) -> Any:
        with _turn(self.connection):
            return super().fetchall()

    def __next__(self) -> Any:
        with _turn(self.connection):
            return super().__next__()

    def close(self) -> None:
        with _turn(self.connection):
            super().close()

    def __del__(self) -> None:
        try:
            turn = _turn(self.connection)
        except (AttributeError, sqlite3.Error):
            return  # never made, or not to its end
        if not turn.lock.acquire(blocking=False):
            turn.left.append(self)
            return
        try:
            super().close()
        except sqlite3.Error:
            pass  # the connection is closed, or of another thread: there is nothing to let go
        finally:
            turn.lock.release()


class _WatchedConnection(sqlite3.Connection):
    tickover_watch: Watch | None = None

    def cursor(self, factory: Any = None) -> Any:
        return super().cursor(_WatchedCursor if factory is None else _cursor_class(factory))

    def execute(self, sql: str, *args: Any) -> Any:
        return self.cursor().execute(sql, *args)

    def executemany(self, sql: str, *args: Any) -> Any:
        return self.cursor().executemany(sql, *args)

    def executescript(self, sql: str) -> Any:
        return self.cursor().executescript(sql)

    def commit(self) -> None:
        with _turn(self):
            super().commit()
            _ended(self, committed=True)

    def rollback(self) -> None:
        with _turn(self):
            super().rollback()
            _ended(self, committed=False)

    def close(self) -> None:
        with _turn(self):
            super().close()

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> Any:
        with _turn(self):
            answer = super().__exit__(kind, error, traceback)
            if not self.in_transaction:
                _ended(self, committed=kind is None)
            return answer

    def set_authorizer(self, *args: Any, **kwargs: Any) -> Any:
        book = current()
        if self.tickover_watch is not None:
            with guarded("sqlite3"):
                self.tickover_watch.blind(self, "its own authorizer", book)
        return super().set_authorizer(*args, **kwargs)


def _ended(connection: _WatchedConnection, *, committed: bool) -> None:
    watch = connection.tickover_watch
    if watch is not None:
        with guarded("sqlite3"):
            watch.committed() if committed else watch.rolled_back()


def _observed(connection: Any, sql: str, real: Any, *args: Any) -> Any:
    watch = getattr(connection, "tickover_watch", None)
    if watch is None or not isinstance(sql, str) or session.is_quiet:
        return real(*args)
    words, mark = ("", "", ""), len(watch.changes)
    book = current()
    with guarded("sqlite3"):
        words = watch.before(connection, sql, book)
    try:
        answer = real(*args)
    except BaseException:
        with guarded("sqlite3"):
            watch.after(connection, words, mark, book, failed=True)
        raise
    with guarded("sqlite3"):
        watch.after(connection, words, mark, book, failed=False)
    return answer


def _observed_script(connection: Any, sql: str, real: Any) -> Any:
    """A script commits what is open first, then runs with whatever transactions it has."""
    watch = getattr(connection, "tickover_watch", None)
    if watch is None or not isinstance(sql, str) or session.is_quiet:
        return real(sql)
    with guarded("sqlite3"):
        watch.committed()
    book, upper = current(), sql.upper()
    with guarded("sqlite3"):
        if "ALTER" in upper or "ROLLBACK" in upper:
            watch.blind(connection, "a script with ALTER or ROLLBACK", book, for_good=False)
        else:
            watch.before(connection, "INSERT", book)
    mark = len(watch.changes)
    try:
        answer = real(sql)
    except BaseException:
        with guarded("sqlite3"):
            watch.after(connection, ("", "", ""), mark, book, failed=True)
        raise
    with guarded("sqlite3"):
        watch.after(connection, ("CREATE", "", ""), mark, book, failed=False)
    return answer


@functools.cache
def _cursor_class(base: Any) -> Any:
    if not isinstance(base, type) or not issubclass(base, sqlite3.Cursor) or issubclass(base, _WatchedCursor):
        return base
    return _WatchedCursor if base is sqlite3.Cursor else _derived(base, _WatchedCursor)


@functools.cache
def _connection_class(base: Any) -> Any:
    if not isinstance(base, type) or issubclass(base, _WatchedConnection):
        return base
    return _WatchedConnection if base is sqlite3.Connection else _derived(base, _WatchedConnection)


def _derived(base: type, watched: type) -> type:
    """A class of the user's, with ours after it: its own methods run first and call ours as they would sqlite3's."""
    return type(base.__name__, (base, watched), {"__module__": base.__module__, "__qualname__": base.__qualname__})


def install() -> list[str]:
    """Watch sqlite3. Returns the names of what is watched now."""
    real = sqlite3.connect

    @functools.wraps(real)
    def connect(*args: Any, **kwargs: Any) -> Any:
        database = args[0] if args else kwargs.get("database")
        if session.is_quiet or _in_memory(database):
            return real(*args, **kwargs)
        arguments = list(args)
        if len(arguments) > 5:
            arguments[5] = _connection_class(arguments[5])
        else:
            kwargs["factory"] = _connection_class(kwargs.get("factory") or sqlite3.Connection)
        connection = real(*arguments, **kwargs)
        with guarded("sqlite3"):
            path = _path_of(database)
            sqlite_files.add(path)
            connection.tickover_watch = Watch(connection, os.path.basename(path))
        return connection

    sqlite3.connect = sqlite3.dbapi2.connect = connect
    return ["databases: sqlite3"]


def _in_memory(database: Any) -> bool:
    text = os.fsdecode(database) if isinstance(database, str | bytes | os.PathLike) else ""
    return text in ("", ":memory:") or "mode=memory" in text


def _path_of(database: Any) -> str:
    text = os.fsdecode(database)
    if text.startswith("file:"):
        text = text[5:].partition("?")[0]
        if text.startswith("//"):
            text = "/" + text.lstrip("/")
    return os.path.realpath(text)
