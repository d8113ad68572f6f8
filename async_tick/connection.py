"""PostgreSQL connections in autocommit that are made anew when they were lost: one of a thread's own, or a pool."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import psycopg2

from tickover.errors import InfrastructureError
from tickover.ground.raw import connect_raw

# What a lost connection raises. The outcome of the statement is then unknown and must be read again.
LOST = (psycopg2.OperationalError, psycopg2.InterfaceError)
# How long a server that went away is waited for by whoever may ask twice, in seconds: a restart takes less.
LOSS_TIMEOUT_S = 30.0

T = TypeVar("T")


@contextlib.contextmanager
def telling_loss() -> Iterator[None]:
    """Raise what `LOST` names where the connection broke. For one that a crash of the server cut, psycopg2 raises the
    root of its errors, without a code of the server's, and does not even take the connection for closed."""
    try:
        yield
    except LOST:
        raise
    except psycopg2.DatabaseError as error:
        if error.pgcode is None:
            raise psycopg2.OperationalError(str(error)) from error
        raise


def again_after_loss(act: Callable[[], T], *, waits: bool = False, timeout_s: float = LOSS_TIMEOUT_S) -> T:
    """What `act` gives, which may be done twice: again, for as long as `timeout_s`, where the connection was lost.
    waits: also where there was none to begin with."""
    deadline = time.monotonic() + timeout_s
    if not waits:
        try:
            return act()
        except LOST:
            pass
    while True:
        try:
            return act()
        except (*LOST, InfrastructureError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)  # a pause between attempts to reach a server that is away


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
            with telling_loss(), self.get().cursor() as cursor:
                cursor.execute(statement, values)
                return list(cursor.fetchall()) if cursor.description else []
        except LOST:
            self.drop()
            raise


class Pool:
    """Connections that threads share: each statement takes one that is free. One per process; a fork begins anew."""

    def __init__(self, application_name: str) -> None:
        self._name = application_name
        self._free: list[Any] = []
        self._pid = os.getpid()

    def rows(self, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """All rows of one statement, which is a transaction of its own. Raises DatabaseUnreachable, and what `LOST`
        names; a lost connection is closed, and so are those that waited with it."""
        connection = self._take()
        try:
            with telling_loss(), connection.cursor() as cursor:
                cursor.execute(statement, values)
                rows = list(cursor.fetchall()) if cursor.description else []
        except LOST:
            self.close()
            connection.close()
            raise
        except BaseException:
            connection.close()
            raise
        self._free.append(connection)
        return rows

    def close(self) -> None:
        """Close the connections that are free."""
        while self._free:
            self._free.pop().close()

    def _take(self) -> Any:
        if self._pid != os.getpid():
            # A child must neither use nor close its parent's connections; what it drops here stays open there.
            self._inherited, self._free, self._pid = self._free, [], os.getpid()
        try:
            return self._free.pop()
        except IndexError:
            connection = connect_raw(application_name=self._name)
            connection.autocommit = True
            return connection
