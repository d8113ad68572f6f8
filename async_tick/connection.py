"""A PostgreSQL connection of a thread's own, in autocommit, that reconnects when it was lost."""

from __future__ import annotations

import os
import threading
from typing import Any

import psycopg2

from tickover.ground.database import connect_raw

# What a lost connection raises. The outcome of the statement is then unknown and must be read again.
LOST = (psycopg2.OperationalError, psycopg2.InterfaceError)


class Connection:
    """One psycopg2 connection per thread and process, made when first used."""

    def __init__(self, application_name: str) -> None:
        self._name = application_name
        self._local = threading.local()

    def get(self) -> Any:
        """The thread's connection, opened anew if it is closed or was made by another process. Raises
        DatabaseUnreachable."""
        held = getattr(self._local, "held", None)
        if held is not None and held[0] == os.getpid() and not held[1].closed:
            return held[1]
        connection = connect_raw(application_name=self._name)
        connection.autocommit = True
        self._local.held = (os.getpid(), connection)
        return connection

    def drop(self) -> None:
        """Close the thread's connection, if this process made it."""
        held = getattr(self._local, "held", None)
        self._local.held = None
        if held is not None and held[0] == os.getpid():
            held[1].close()

    def rows(self, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """All rows of one statement, which is a transaction of its own. After a loss the connection is dropped."""
        try:
            with self.get().cursor() as cursor:
                cursor.execute(statement, values)
                return list(cursor.fetchall()) if cursor.description else []
        except LOST:
            self.drop()
            raise
