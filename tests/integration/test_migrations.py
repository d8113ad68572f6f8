"""The schema's history, replayed on a real server, against the models of all packages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

import async_tick.models
import migrations
import reports.models
import shadow.models
from tickover.ground import migrate
from tickover.ground.database import Base, engine

ALL_MODELS = (async_tick.models, reports.models, shadow.models)


def _differences(url: str) -> list[Any]:
    with engine(url).connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True, "target_metadata": Base.metadata}
        )
        return list(compare_metadata(context, Base.metadata))


def test_the_models_are_what_the_migrations_make(database: str) -> None:
    """Tables, columns, types, nullability, defaults and indexes of models and migrations are the same."""
    assert ALL_MODELS
    assert _differences(database) == []


def test_a_difference_would_be_seen(database: str) -> None:
    """A column more in the database is found: the comparison is not blind."""
    with engine(database).begin() as connection:
        connection.execute(text("ALTER TABLE workflow_checkpoints ADD COLUMN extra integer"))
    assert len(_differences(database)) == 1


def test_the_files_are_the_revisions_in_their_order() -> None:
    """What the names of the files say is what Alembic reads in them."""
    folder = Path(migrations.__file__).parent
    script = ScriptDirectory(str(folder))
    assert migrate.revisions() == [each.revision for each in script.walk_revisions()][::-1]
    assert migrate.head() == script.get_current_head()


def test_an_upgrade_of_an_upgraded_database_does_nothing(database: str) -> None:
    """The newest revision stays, and nothing is done twice."""
    assert migrate.upgrade(engine(database)) == migrate.head()


def test_an_empty_database_has_pending_migrations(empty_database: str) -> None:
    """A database without a schema is refused, with the command that mends it."""
    with pytest.raises(migrate.PendingMigrations, match="tickover db upgrade"):
        migrate.require_current(engine(empty_database))


def test_a_schema_from_the_future_is_refused(database: str) -> None:
    """A revision that this version does not know is named, and nothing is changed."""
    with engine(database).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999_future'"))
    for act in (migrate.require_current, migrate.upgrade):
        with pytest.raises(migrate.SchemaTooNew, match="9999_future"):
            act(engine(database))
