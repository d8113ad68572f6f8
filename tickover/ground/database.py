"""PostgreSQL: where it is, and how to connect to it."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

import psycopg2
from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import make_url
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


def unreachable(url: str, error: Exception) -> DatabaseUnreachable:
    """The error to show when PostgreSQL does not answer, without any password."""
    reason = redact_url(str(error)).strip().splitlines()
    return DatabaseUnreachable(
        f"cannot reach PostgreSQL at {redact_url(url)}: {reason[0] if reason else type(error).__name__}; "
        "check DATABASE_URL and that the server runs, or unset it to use the embedded one"
    )


def connect_raw(url: str | None = None, *, application_name: str = "tickover") -> Any:
    """A psycopg2 connection with the session limits set. Raises DatabaseUnreachable."""
    url = url or resolve_url()
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    try:
        return psycopg2.connect(
            plain, connect_timeout=CONNECT_TIMEOUT_S, application_name=application_name, options=_SESSION_OPTIONS,
            keepalives=1, keepalives_idle=10, keepalives_interval=5, keepalives_count=3,
        )  # fmt: skip
    except psycopg2.OperationalError as error:
        raise unreachable(url, error) from error


def engine(url: str | None = None) -> Engine:
    """The SQLAlchemy engine for a URL (None: the one in use), one per process and URL."""
    return _engine(url or resolve_url(), os.getpid())


@lru_cache(maxsize=8)
def _engine(url: str, pid: int) -> Engine:
    # The process id is part of the key: a forked child must not share its parent's connections.
    target = make_url(url)
    if target.drivername in ("postgresql", "postgres"):
        target = target.set(drivername="postgresql+psycopg2")
    return create_engine(
        target,
        pool_pre_ping=True,
        pool_size=5,
        max_overflow=20,
        connect_args={
            "options": _SESSION_OPTIONS,
            "connect_timeout": CONNECT_TIMEOUT_S,
            "application_name": "tickover",
        },
    )


def dispose_engines() -> None:
    """Close every pooled connection of this process and forget the engines."""
    # lru_cache has no way to list its values; engines are collected, and their pools closed, when forgotten.
    _engine.cache_clear()


class _LazySession(sessionmaker[Session]):
    """A session factory that finds the database when it is first called."""

    def __call__(self, **local_kw: Any) -> Session:
        local_kw.setdefault("bind", engine())
        return super().__call__(**local_kw)


SessionLocal = _LazySession(expire_on_commit=False)
