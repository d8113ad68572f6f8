"""Tests of tickover.ground.raw: reading URLs without an ORM."""

from __future__ import annotations

import pytest

import migrations
from tickover.errors import ConfigurationError
from tickover.ground import migrate
from tickover.ground.raw import parse_dsn


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2"])
def test_all_ways_to_write_postgresql_are_read(scheme: str) -> None:
    """SQLAlchemy's and libpq's names of the scheme mean the same server."""
    found = parse_dsn(f"{scheme}://ada@db.example:5433/being?sslmode=require")
    assert found == {"host": "db.example", "port": "5433", "user": "ada", "dbname": "being", "sslmode": "require"}


@pytest.mark.parametrize("url", ["mysql://ada:secret@h/db", "sqlite:///secret.db"])
def test_another_database_is_named(url: str) -> None:
    """The error names the kind of database that was given, and no password."""
    with pytest.raises(ConfigurationError, match="Tickover needs PostgreSQL") as caught:
        parse_dsn(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "secret", "postgresql://h/db?secret=1", "://secret"])
def test_what_is_no_url_is_refused_without_being_shown(url: str) -> None:
    """What cannot be parsed cannot be redacted, so it is not repeated."""
    with pytest.raises(ConfigurationError) as caught:
        parse_dsn(url)
    assert "secret" not in str(caught.value)


def test_the_newest_revision_is_the_one_that_workers_ask_for() -> None:
    """The constant that workers compare with is the head of the migration files."""
    assert migrate.head() == migrations.HEAD
