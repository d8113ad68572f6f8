"""PostgreSQL through SQLAlchemy: the engine, sessions, and the root of all table classes."""

from __future__ import annotations

import os
import threading
from typing import Any

from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

from tickover.ground.raw import connect_raw as connect_raw
from tickover.ground.raw import parse_dsn, resolve_url, session_arguments, unreadable_url


class Base(DeclarativeBase):
    """Root of all table classes; its metadata is the whole schema."""


def parse_url(url: str) -> URL:
    """The URL with the driver that Tickover uses. Raises ConfigurationError if it names no PostgreSQL database."""
    parse_dsn(url)
    try:
        return make_url(url).set(drivername="postgresql+psycopg2")
    except (ArgumentError, ValueError):
        raise unreadable_url() from None


_engines: dict[str, Engine] = {}
_engines_lock = threading.Lock()


def engine(url: str | None = None) -> Engine:
    """The SQLAlchemy engine for a URL (None: the one in use), one per process and URL. Raises ConfigurationError."""
    url = url or resolve_url()
    with _engines_lock:
        if url not in _engines:
            parsed = parse_url(url)
            own = parsed.query.get("options", "")
            _engines[url] = create_engine(
                parsed,
                pool_pre_ping=True,
                pool_size=5,
                max_overflow=20,
                hide_parameters=True,
                connect_args=session_arguments(own if isinstance(own, str) else " ".join(own), "tickover"),
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
