"""PostgreSQL: where it is, and how to connect to it."""

from __future__ import annotations

import os
import threading
from typing import Any

import psycopg2
from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

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


class DatabaseUnreachable(InfrastructureError):
    """PostgreSQL does not answer."""


class Base(DeclarativeBase):
    """Root of all table classes; its metadata is the whole schema."""


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


def parse_url(url: str) -> URL:
    """The URL with the driver that Tickover uses. Raises ConfigurationError if it names no PostgreSQL database."""
    try:
        parsed = make_url(url)
        dialect = parsed.get_backend_name()
        if dialect in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg2")
            # libpq's own reading of it: an unknown parameter, a port that is none.
            psycopg2.extensions.parse_dsn(_plain(parsed))
            return parsed
    except (ArgumentError, ValueError, psycopg2.ProgrammingError):
        # Neither the text nor the cause is shown: what cannot be parsed cannot be redacted with certainty.
        raise ConfigurationError(
            "DATABASE_URL is no URL of a PostgreSQL database, or has a parameter that PostgreSQL does not know; "
            "write postgresql://USER@HOST:5432/DATABASE, the password in PGPASSWORD, or percent-encoded after `USER:`"
        ) from None
    raise ConfigurationError(
        f"DATABASE_URL names a {dialect} database, and Tickover needs PostgreSQL; "
        "write postgresql://USER@HOST:5432/DATABASE, or unset it to use the embedded one"
    )


def _plain(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def unreachable(url: str, error: Exception) -> DatabaseUnreachable:
    """The error to show when PostgreSQL does not answer, without any password."""
    reason = redact_url(str(getattr(error, "orig", None) or error)).strip().splitlines()
    return DatabaseUnreachable(
        f"cannot reach PostgreSQL at {redact_url(url)}: {reason[0] if reason else type(error).__name__}; "
        "check DATABASE_URL and that the server runs, or unset it to use the embedded one"
    )


def _connect_arguments(url: URL, application_name: str) -> dict[str, Any]:
    """What every session gets: limits, a name, and keepalives, which notice a dead peer within half a minute."""
    own = url.query.get("options", "")
    return {
        "options": f"{own if isinstance(own, str) else ' '.join(own)} {_SESSION_OPTIONS}".strip(),
        "connect_timeout": CONNECT_TIMEOUT_S,
        "application_name": application_name,
        "keepalives": 1,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
    }


def connect_raw(url: str | None = None, *, application_name: str = "tickover") -> psycopg2.extensions.connection:
    """A psycopg2 connection with the session limits set, to the URL (None: the one in use).

    Raises DatabaseUnreachable, ConfigurationError.
    """
    url = url or resolve_url()
    parsed = parse_url(url)
    try:
        made: psycopg2.extensions.connection = psycopg2.connect(
            _plain(parsed), **_connect_arguments(parsed, application_name)
        )
    except psycopg2.OperationalError as error:
        raise unreachable(url, error) from error
    return made


_engines: dict[str, Engine] = {}
_engines_lock = threading.Lock()


def engine(url: str | None = None) -> Engine:
    """The SQLAlchemy engine for a URL (None: the one in use), one per process and URL. Raises ConfigurationError."""
    url = url or resolve_url()
    with _engines_lock:
        if url not in _engines:
            parsed = parse_url(url)
            _engines[url] = create_engine(
                parsed,
                pool_pre_ping=True,
                pool_size=5,
                max_overflow=20,
                hide_parameters=True,
                connect_args=_connect_arguments(parsed, "tickover"),
            )
        return _engines[url]


def dispose_engines() -> None:
    """Close every pooled connection of this process and forget the engines."""
    with _engines_lock:
        for each in _engines.values():
            each.dispose()
        _engines.clear()


def _forget_engines() -> None:
    # A forked child must neither use nor close its parent's connections.
    global _engines_lock
    _engines_lock = threading.Lock()
    for each in _engines.values():
        each.dispose(close=False)
    _engines.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_engines)


class _LazySession(sessionmaker[Session]):
    """A session factory that finds the database when it is first called."""

    def __call__(self, **local_kw: Any) -> Session:
        local_kw.setdefault("bind", engine())
        return super().__call__(**local_kw)


SessionLocal = _LazySession(expire_on_commit=False)
