"""Plain PostgreSQL connections, without an ORM: what workers use, whose memory counts once per process."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import psycopg2

from tickover.errors import ConfigurationError, InfrastructureError
from tickover.ground.secrets import redact_url
from tickover.ground.settings import get_settings

# Limits of every session: no statement and no forgotten transaction may hold locks for longer.
STATEMENT_TIMEOUT_MS = 60_000
IDLE_IN_TRANSACTION_TIMEOUT_MS = 30_000
CONNECT_TIMEOUT_S = 5

_SESSION_OPTIONS = (
    f"-c statement_timeout={STATEMENT_TIMEOUT_MS} "
    f"-c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_TIMEOUT_MS}"
)
# Ways to write PostgreSQL in a URL that SQLAlchemy and libpq name differently.
_SCHEMES = ("postgresql+psycopg2://", "postgresql://", "postgres://")


class DatabaseUnreachable(InfrastructureError):
    """PostgreSQL does not answer."""


def resolve_url() -> str:
    """The URL of the database in use: DATABASE_URL, else the embedded server of the data directory.

    Raises ConfigurationError if neither is there.
    """
    settings = get_settings()
    if settings.database_url:
        return settings.database_url
    from tickover.ground.servers import running_database_url

    url = running_database_url(settings)
    if url is None:
        raise ConfigurationError(
            f"no database: DATABASE_URL is not set and no embedded server runs for {settings.data_dir}; "
            "run `tickover servers start`, or set DATABASE_URL"
        )
    return url


def parse_dsn(url: str) -> dict[str, Any]:
    """What libpq reads in the URL: host, user, database and further parameters. Raises ConfigurationError."""
    scheme = next((scheme for scheme in _SCHEMES if url.startswith(scheme)), None)
    if scheme is None:
        named = url.partition("://")[0].partition("+")[0]
        if "://" in url and named.isalnum() and named not in ("postgresql", "postgres"):
            raise ConfigurationError(
                f"DATABASE_URL names a {named} database, and Tickover needs PostgreSQL; "
                "write postgresql://USER@HOST:5432/DATABASE, or unset it to use the embedded one"
            )
        raise unreadable_url()
    try:
        found: dict[str, Any] = psycopg2.extensions.parse_dsn("postgresql://" + url[len(scheme) :])
    except (psycopg2.ProgrammingError, ValueError):
        raise unreadable_url() from None
    return found


def unreadable_url() -> ConfigurationError:
    """The error to raise for a DATABASE_URL that cannot be parsed."""
    # Neither the text nor the cause is shown: what cannot be parsed cannot be redacted with certainty.
    return ConfigurationError(
        "DATABASE_URL is no URL of a PostgreSQL database, or has a parameter that PostgreSQL does not know; "
        "write postgresql://USER@HOST:5432/DATABASE, the password in PGPASSWORD, or percent-encoded after `USER:`"
    )


def unreachable(url: str, error: Exception) -> DatabaseUnreachable:
    """The error to show when PostgreSQL does not answer, without any password."""
    reason = redact_url(str(getattr(error, "orig", None) or error)).strip().splitlines()
    return DatabaseUnreachable(
        f"cannot reach PostgreSQL at {redact_url(url)}: {reason[0] if reason else type(error).__name__}; "
        "check DATABASE_URL and that the server runs, or unset it to use the embedded one"
    )


def session_arguments(own_options: str, application_name: str) -> dict[str, Any]:
    """What every session gets: limits, a name, and keepalives, which notice a dead peer within half a minute."""
    return {
        "options": f"{own_options} {_SESSION_OPTIONS}".strip(),
        "connect_timeout": CONNECT_TIMEOUT_S,
        "application_name": application_name,
        "keepalives": 1,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
    }


def schema_is_current(application_name: str = "tickover") -> bool:
    """Whether the database in use has the schema of this code. Raises DatabaseUnreachable.

    It answers without loading Alembic; what is wrong, if it is not, `tickover.ground.migrate` says.
    """
    from migrations import HEAD

    with closing(connect_raw(application_name=application_name)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('alembic_version') IS NOT NULL")
        if not cursor.fetchall()[0][0]:
            return False
        cursor.execute("SELECT version_num FROM alembic_version")
        return [row[0] for row in cursor.fetchall()] == [HEAD]


def connect_raw(url: str | None = None, *, application_name: str = "tickover") -> psycopg2.extensions.connection:
    """A psycopg2 connection with the session limits set, to the URL (None: the one in use).

    Raises DatabaseUnreachable, ConfigurationError.
    """
    url = url or resolve_url()
    found = parse_dsn(url)
    try:
        made: psycopg2.extensions.connection = psycopg2.connect(
            **{**found, **session_arguments(found.get("options", ""), application_name)}
        )
    except psycopg2.OperationalError as error:
        raise unreachable(url, error) from error
    return made
