"""What the doctor sees in PostgreSQL: version, durability, schema, clock, connections, a pooler in between."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2

from async_tick.doctor.finding import Finding, ok, problem, warning
from tickover.errors import InfrastructureError, TickoverError
from tickover.ground.migrate import MINIMUM_VERSION, PendingMigrations, require_current
from tickover.ground.raw import connect_raw
from tickover.ground.secrets import redact_url
from tickover.ground.settings import Settings

# A skew that is more than the way to the server, in seconds: ticks of two hosts then overlap or go back in time.
SKEW_WARNING_S, SKEW_PROBLEM_S = 1.0, 30.0
# What one command or loop needs beside the workers: its own, listener, orchestrator, route, adoption, delivery.
COMMAND_CONNECTIONS = 6

_DURABILITY = (
    "SELECT current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit')"
)

# Limits of server, database and role, and what is used of each; 0 and -1 are "no limit" of the latter two.
_CONNECTIONS = """
WITH clients AS (
    SELECT datname, usename FROM pg_stat_activity
    -- Who may not see others' sessions is told neither their kind; only clients have a database and a user.
    WHERE datname IS NOT NULL AND usename IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend')
SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
       - coalesce(current_setting('reserved_connections', true), '0')::int, (SELECT count(*) FROM clients),
       (SELECT d.datconnlimit FROM pg_database d WHERE d.datname = current_database()),
       (SELECT count(*) FROM clients c WHERE c.datname = current_database()),
       (SELECT r.rolconnlimit FROM pg_roles r WHERE r.rolname = current_user),
       (SELECT count(*) FROM clients c WHERE c.usename = current_user)
"""


def connections_of_worker(pool: str, concurrency: int) -> int:
    """How many connections a worker of this kind opens at most: its sweeper, and for each of its processes a session
    lock and, for each thread that runs steps, one for claims and one for a tape."""
    return 1 + 3 * concurrency if pool == "prefork" else 2 + 2 * concurrency


def database_findings(settings: Settings, url: str, *, embedded: bool = False) -> list[Finding]:
    """What is seen in the database at `url`; one finding if it does not answer. embedded: it is Tickover's own."""
    try:
        connection = connect_raw(url, application_name="tickover doctor")
    except TickoverError as error:
        said, _, remedy = str(error).partition("; ")
        if "startup parameter" in said:
            remedy = "connect to PostgreSQL itself: this pooler refuses the limits that each session needs"
        return [problem("database", said, remedy or "check DATABASE_URL")]
    with closing(connection):
        connection.autocommit = True
        version = connection.server_version
        findings = [ok("database", f"PostgreSQL {_version(version)} answers at {redact_url(url)}")]
        for look in (_version_finding, _durability, _clock, _connections):
            with _said_where_it_fails(look.__name__.strip("_"), findings):
                findings.append(look(connection, settings))
        with _said_where_it_fails("pooler", findings):
            findings.append(_pooler(connection, url))
    findings.append(_schema(url, embedded=embedded))
    return findings


@contextlib.contextmanager
def _said_where_it_fails(name: str, findings: list[Finding]) -> Iterator[None]:
    try:
        yield
    except psycopg2.Error as error:
        findings.append(
            warning(name, f"could not be looked at: {str(error).strip()}", "check the rights of the user")
        )


def _value(connection: Any, statement: str) -> tuple[Any, ...]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        row: tuple[Any, ...] = cursor.fetchall()[0]
        return row


def _version(number: int) -> str:
    return f"{number // 10_000}.{number % 10_000}"


def _version_finding(connection: Any, settings: Settings) -> Finding:
    (number,) = _value(connection, "SELECT current_setting('server_version_num')::int")
    if number < MINIMUM_VERSION * 10_000:
        return problem(
            "database version", f"PostgreSQL {_version(number)} is older than {MINIMUM_VERSION}",
            f"upgrade the server to PostgreSQL {MINIMUM_VERSION} or later, or unset DATABASE_URL",
        )  # fmt: skip
    return ok("database version", f"{_version(number)}, {MINIMUM_VERSION} or later is needed")


def _durability(connection: Any, settings: Settings) -> Finding:
    names = ("fsync", "full_page_writes", "synchronous_commit")
    off = [name for name, value in zip(names, _value(connection, _DURABILITY), strict=True) if value == "off"]
    if off:
        return problem(
            "durability",
            f"{' and '.join(off)} off: a crash of the server loses what was committed, ticks that count among it",
            "; ".join(_turn_on(name) for name in off),
        )
    return ok("durability", "what is committed is on disk")


def _turn_on(name: str) -> str:
    if name == "synchronous_commit":
        return "run `ALTER DATABASE ... SET synchronous_commit = on` (or for the role, or the server)"
    return f"set {name} = on in postgresql.conf and reload the server"


def _clock(connection: Any, settings: Settings) -> Finding:
    before = dt.datetime.now(dt.UTC)
    (there,) = _value(connection, "SELECT clock_timestamp()")
    after = dt.datetime.now(dt.UTC)
    # The answer was given somewhere between: only what lies outside of that is skew.
    ahead_s = max((there - after).total_seconds(), (before - there).total_seconds(), 0.0)
    if ahead_s < SKEW_WARNING_S:
        return ok("clock", "host and database agree within a second")
    side = "ahead of" if there > after else "behind"
    said = f"the database's clock is {ahead_s:.1f} s {side} this host's: a tick's time depends on who starts it"
    return (problem if ahead_s >= SKEW_PROBLEM_S else warning)(
        "clock", said, "run a time service on both, and look with `timedatectl` or `chronyc tracking`"
    )


def _connections(connection: Any, settings: Settings) -> Finding:
    server, used, of_database, database_used, of_role, role_used = _value(connection, _CONNECTIONS)
    left = {"max_connections": server - used}
    if of_database is not None and of_database >= 0:
        left["the database's CONNECTION LIMIT"] = of_database - database_used
    if of_role is not None and of_role >= 0:
        left["the role's CONNECTION LIMIT"] = of_role - role_used
    which = min(left, key=lambda name: left[name])
    worker = connections_of_worker(settings.pool, settings.concurrency)
    said = f"{max(left[which], 0)} connections left under {which}"
    remedy = f"raise {which}, or lower TICKOVER_CONCURRENCY (now {settings.concurrency}, pool {settings.pool})"
    if left[which] < COMMAND_CONNECTIONS:
        return problem("connections", f"{said}: a loop or command needs {COMMAND_CONNECTIONS}", remedy)
    if left[which] < worker + COMMAND_CONNECTIONS:
        return warning(
            "connections", f"{said}: one more worker needs {worker}, a command {COMMAND_CONNECTIONS}", remedy
        )
    return ok("connections", f"{said}; a worker needs {worker}")


def _pooler(connection: Any, url: str) -> Finding:
    """Two clients of PostgreSQL itself have one backend each, and keep it. Behind a pooler that hands out connections
    by transaction, the second gets the backend that the first has just left, or the first one another."""
    (first,) = _value(connection, "SELECT pg_backend_pid()")
    try:
        other = connect_raw(url, application_name="tickover doctor")
    except InfrastructureError:
        # No room for a second one, which `connections` says.
        return ok("pooler", "not looked at: there is no room for a second connection")
    with closing(other):
        # A transaction that stays open keeps its backend from going back to the pool.
        (second,) = _value(other, "SELECT pg_backend_pid()")
        (again,) = _value(connection, "SELECT pg_backend_pid()")
    if second == first or again != first:
        return problem(
            "pooler", "a pooler gives out connections by transaction: session locks, by which workers show that they "
            "live and moves are fenced, are lost in it",
            "let DATABASE_URL name PostgreSQL itself, or a pool with pool_mode = session",
        )  # fmt: skip
    return ok("pooler", "a session keeps its backend, so its locks hold")


def _schema(url: str, *, embedded: bool) -> Finding:
    from tickover.ground.database import engine

    try:
        require_current(engine(url))
    except PendingMigrations as error:
        said, _, remedy = str(error).partition("; ")
        if embedded:
            return ok("migrations", f"{said}; the next command brings the embedded one up to date")
        return problem("migrations", said, remedy)
    except TickoverError as error:
        said, _, remedy = str(error).partition("; ")
        return problem("migrations", said, remedy)
    return ok("migrations", "the schema is that of this code")
