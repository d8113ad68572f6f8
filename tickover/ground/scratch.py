"""Databases for a while: made on the server in use and dropped again, by the next one if their maker was killed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

import psycopg2
from psycopg2 import sql

from tickover.draws import seed_of
from tickover.errors import ConfigurationError
from tickover.ground.raw import connect_raw


@contextmanager
def scratch_database(url: str, prefix: str) -> Iterator[str]:
    """The URL of an empty database on the server of `url`, as long as the context lasts.

    prefix: of its name. Databases of this prefix whose maker is gone are dropped first. Raises ConfigurationError
    where the user may not create a database, DatabaseUnreachable.
    """
    name = f"{prefix}_{uuid.uuid4().hex[:12]}"
    with closing(connect_raw(url, application_name="tickover scratch")) as connection, connection.cursor() as do:
        connection.rollback()
        connection.autocommit = True
        # Held as long as this session lives: by it others see that the database is in use.
        do.execute("SELECT pg_advisory_lock(%s)", (_lock(name),))
        _drop_orphans(do, prefix)
        try:
            do.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        except psycopg2.errors.InsufficientPrivilege as error:
            raise ConfigurationError(
                "the database's user may not create a database, which proofs and rehearsals need; let it: "
                "ALTER USER ... CREATEDB"
            ) from error
        try:
            yield urlsplit(url)._replace(path=f"/{name}").geturl()
        finally:
            _drop(do, name)


def _lock(name: str) -> int:
    return seed_of("scratch", name) % 2**63


def _drop_orphans(do: Any, prefix: str) -> None:
    do.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", (f"{prefix}_",))
    for (name,) in do.fetchall():
        do.execute("SELECT pg_try_advisory_lock(%s)", (_lock(name),))
        if do.fetchall()[0][0]:
            try:
                _drop(do, name)
            except psycopg2.errors.InsufficientPrivilege:
                continue  # another user's, who drops it with the next one of theirs
            finally:
                do.execute("SELECT pg_advisory_unlock(%s)", (_lock(name),))


def _drop(do: Any, name: str) -> None:
    do.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
