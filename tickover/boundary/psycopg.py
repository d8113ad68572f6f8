"""psycopg2, if legacy uses it: statements that write, as writes that exist once they are committed.

Rows change in a server, out of this process's sight, and asking for them (RETURNING) would change legacy's
statements. So a write is the statement: its text, its parameters and how many rows it touched. What is not an INSERT,
UPDATE or DELETE of its own may still write (COPY, CALL, a function in a SELECT): COPY and CALL are listed as
unobserved.
"""

from __future__ import annotations

import datetime as dt
import functools
import re
from decimal import Decimal
from typing import Any

from tickover.boundary.imports import after_import
from tickover.boundary.session import Book, current, guarded, session
from tickover.canonical import normalise
from tickover.workflow import Write

_WRITE = re.compile(
    r"\s*(?:WITH\b.*?\)\s*)?(INSERT\s+INTO|UPDATE(?:\s+ONLY)?|DELETE\s+FROM(?:\s+ONLY)?)\s+([\w.\"]+)",
    re.I | re.DOTALL,
)
_UNSEEN = re.compile(r"\s*(COPY|CALL|DO|TRUNCATE|MERGE)\b", re.I)


def install() -> None:
    """Watch psycopg2 once it is imported."""
    after_import("psycopg2", _watch)


def _watch(psycopg2: Any) -> None:
    real = psycopg2.connect

    @functools.wraps(real)
    def connect(*args: Any, **kwargs: Any) -> Any:
        factory = kwargs.get("connection_factory") or psycopg2.extensions.connection
        if not session.is_quiet and isinstance(factory, type):
            kwargs["connection_factory"] = _connection_class(factory, psycopg2.extensions.cursor)
        return real(*args, **kwargs)

    psycopg2.connect = connect
    session.installed.append("databases: psycopg2 (statements)")


@functools.cache
def _connection_class(base: Any, default_cursor: Any) -> Any:
    class Watched(base):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.tickover_open: list[tuple[Book, int, Write]] = []

        def cursor(self, *args: Any, **kwargs: Any) -> Any:
            place = 1 if len(args) > 1 else None
            given = args[1] if place else kwargs.get("cursor_factory")
            factory = given or self.cursor_factory or default_cursor
            if isinstance(factory, type):
                watched = _cursor_class(factory)
                if place:
                    args = (args[0], watched, *args[2:])
                else:
                    kwargs["cursor_factory"] = watched
            return super().cursor(*args, **kwargs)

        def commit(self) -> None:
            super().commit()
            self.tickover_ended(committed=True)

        def rollback(self) -> None:
            super().rollback()
            self.tickover_ended(committed=False)

        def close(self) -> None:
            super().close()
            self.tickover_ended(committed=False)

        def __exit__(self, kind: Any, error: Any, traceback: Any) -> Any:
            answer = super().__exit__(kind, error, traceback)
            self.tickover_ended(committed=kind is None)
            return answer

        def tickover_ended(self, *, committed: bool) -> None:
            changes, self.tickover_open = self.tickover_open, []
            if committed:
                with guarded("psycopg2"):
                    for book, number, write in changes:
                        book.recorder.write(book, write, number=number)

    Watched.__name__, Watched.__qualname__, Watched.__module__ = base.__name__, base.__qualname__, base.__module__
    return Watched


@functools.cache
def _cursor_class(base: Any) -> Any:
    class Watched(base):  # type: ignore[misc]
        def execute(self, query: Any, vars: Any = None) -> Any:
            answer = super().execute(query, vars)
            _ran(self, query, vars)
            return answer

        def executemany(self, query: Any, vars_list: Any) -> Any:
            answer = super().executemany(query, vars_list)
            # What an iterator gave is gone, and taking a copy first would have drained it before its time.
            _ran(self, query, vars_list if isinstance(vars_list, list | tuple) else None)
            return answer

        def copy_from(self, *args: Any, **kwargs: Any) -> Any:
            session.unobserved("psycopg2: COPY")
            return super().copy_from(*args, **kwargs)

        def copy_expert(self, *args: Any, **kwargs: Any) -> Any:
            session.unobserved("psycopg2: COPY")
            return super().copy_expert(*args, **kwargs)

        def callproc(self, *args: Any, **kwargs: Any) -> Any:
            session.unobserved("psycopg2: CALL")
            return super().callproc(*args, **kwargs)

    Watched.__name__, Watched.__qualname__, Watched.__module__ = base.__name__, base.__qualname__, base.__module__
    return Watched


def _ran(cursor: Any, query: Any, parameters: Any) -> None:
    book = current()
    if book is None:
        return
    with guarded("psycopg2"):
        connection = cursor.connection
        text = query if isinstance(query, str) else query.decode() if isinstance(query, bytes) else None
        if text is None:
            text = query.as_string(cursor)
        head = text.strip().split(None, 1)[0].rstrip(";").upper() if text.strip() else ""
        if head in ("COMMIT", "END", "ROLLBACK", "ABORT"):
            connection.tickover_ended(committed=head in ("COMMIT", "END"))
        unseen = _UNSEEN.match(text)
        if unseen is not None:
            book.recorder.unobserved[f"psycopg2: {unseen[1].upper()}"] = None
        found = _WRITE.match(text)
        if found is not None:
            row = {"statement": " ".join(text.split()), "parameters": _plain(parameters), "rows": cursor.rowcount}
            op = found[1].split()[0].lower()
            write = Write(door="psycopg2", target=found[2].replace('"', ""), op=op, row=row)
            connection.tickover_open.append((book, session.next_number(), write))
        if connection.autocommit:
            connection.tickover_ended(committed=True)


def _plain(parameters: Any) -> Any:
    """Parameters as JSON; what has no form of its own is its text, as the server will read it."""

    def convert(value: Any) -> Any:
        if isinstance(value, dt.datetime | dt.time | Decimal | bytes | set | frozenset):
            return str(value)
        adapted = getattr(value, "adapted", value)
        return adapted if adapted is not value else str(value)

    return normalise(list(parameters) if isinstance(parameters, tuple) else parameters, convert)
