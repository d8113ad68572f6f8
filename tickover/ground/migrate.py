"""The schema: bringing a database to the version that this code needs, and refusing one that is not.

Each command asks whether the schema is current, so that is asked without Alembic, whose import takes a tenth of a
second; only an upgrade needs it.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

from psycopg2.errors import InsufficientPrivilege
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from tickover.errors import ConfigurationError, InfrastructureError
from tickover.ground.raw import unreachable
from tickover.ground.secrets import redact_url

# The oldest version that PostgreSQL's own developers still maintained when this was written.
MINIMUM_VERSION = 14
# Name of the advisory lock that one upgrade at a time holds.
_UPGRADE_LOCK = 7_316_529_001


class PendingMigrations(ConfigurationError):
    """The database has an older schema than this code."""


class SchemaTooNew(ConfigurationError):
    """The database has a newer schema than this code."""


class DatabaseTooOld(InfrastructureError):
    """PostgreSQL is older than Tickover supports."""


def _folder() -> Path:
    import migrations

    return Path(migrations.__file__).parent


def revisions() -> list[str]:
    """The revisions that this code knows, oldest first: each is the name of its file, and begins with its number."""
    return sorted(path.stem for path in (_folder() / "versions").glob("[0-9]*.py"))


def head() -> str:
    """The newest revision that this code knows."""
    return revisions()[-1]


def current(engine: Engine) -> str | None:
    """The revision of the database; None for an empty one.

    Raises DatabaseUnreachable, DatabaseTooOld, InfrastructureError if it may not be read.
    """
    with _errors_explained(engine), engine.connect() as connection:
        number = int(connection.execute(text("SHOW server_version_num")).scalar_one())
        if number < MINIMUM_VERSION * 10_000:
            raise DatabaseTooOld(
                f"PostgreSQL {number // 10_000} at {redact_url(str(engine.url))} is too old; Tickover needs "
                f"{MINIMUM_VERSION} or later. Upgrade the server, or unset DATABASE_URL to use the embedded one"
            )
        if connection.execute(text("SELECT to_regclass('alembic_version')")).scalar_one() is None:
            return None
        found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
        return found


def upgrade(engine: Engine) -> str | None:
    """Bring the database to the newest revision, all steps in one transaction, and return that revision.

    Two processes at once do it one after the other; the second finds nothing to do. Raises what `current` raises, and
    SchemaTooNew.
    """
    before = current(engine)
    _refuse_newer(before)
    if before == head():
        return before
    from alembic import command
    from alembic.config import Config

    config = Config(stdout=io.StringIO())
    config.set_main_option("script_location", str(_folder()).replace("%", "%%"))
    with _errors_explained(engine), engine.connect() as connection:
        # A migration may take longer than any statement of daily work, and so may waiting for another's.
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_lock(:name)"), {"name": _UPGRADE_LOCK})
        connection.commit()
        try:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
        finally:
            # Closed, not returned to the pool: the lock and the setting end with the session.
            connection.invalidate()
    return current(engine)


@contextlib.contextmanager
def _errors_explained(engine: Engine) -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        raise unreachable(str(engine.url), error) from error
    except ProgrammingError as error:
        if not isinstance(error.orig, InsufficientPrivilege):
            raise
        reason = redact_url(str(error.orig)).strip().splitlines()[0]
        raise InfrastructureError(
            f"the schema at {redact_url(str(engine.url))} cannot be read or changed: {reason}; "
            "give the user rights on the database, for example by making it the owner"
        ) from error


def require_current(engine: Engine) -> None:
    """Do nothing if the schema is that of this code. Raises PendingMigrations, SchemaTooNew, DatabaseUnreachable."""
    found = current(engine)
    _refuse_newer(found)
    if found != head():
        raise PendingMigrations(
            f"the database is at schema {found or 'none'}, this code needs {head()}; run `tickover db upgrade`"
        )


def _refuse_newer(found: str | None) -> None:
    if found is not None and found not in revisions():
        raise SchemaTooNew(
            f"the database is at schema {found}, which this version of Tickover does not know; "
            "use the newer Tickover, or another database"
        )
