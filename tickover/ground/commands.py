"""Commands `servers` and `db`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import click

from tickover.errors import ExitCode
from tickover.ground import servers as embedded
from tickover.ground.secrets import redact_url
from tickover.ground.settings import get_settings


@contextlib.contextmanager
def ready_database() -> Iterator[embedded.Endpoints]:
    """The servers for a command's duration, with the schema as this code needs it.

    Embedded databases are brought up to date; one that the user names is not touched, and refused if it is not
    current.
    """
    import os

    from tickover.ground import migrate
    from tickover.ground.database import engine
    from tickover.ground.settings import reset_settings

    settings = get_settings()
    with embedded.use(settings) as endpoints:
        os.environ.update(endpoints.environment())
        reset_settings()
        target = engine(endpoints.database_url)
        if settings.embedded_database:
            migrate.upgrade(target)
        else:
            migrate.require_current(target)
        yield endpoints


@click.group()
def servers() -> None:
    """The embedded PostgreSQL and Redis of the data directory."""


@servers.command("start")
def start() -> None:
    """Start them and have them stay until `servers stop`."""
    endpoints = embedded.keep(get_settings())
    if not endpoints.embedded:
        click.echo("nothing to start: DATABASE_URL and the broker are set", err=True)
    _show(endpoints)


@servers.command("status")
def status() -> int:
    """Say whether they run and where; exit code 3 if they do not."""
    settings = get_settings()
    endpoints = embedded.running(settings)
    if endpoints is None:
        click.echo(f"no embedded servers run for {settings.data_dir}; `tickover servers start` starts them", err=True)
        return int(ExitCode.INFRASTRUCTURE)
    _show(endpoints)
    return int(ExitCode.OK)


@servers.command("stop")
def stop() -> int:
    """Stop keeping them; they end with their last user."""
    users = embedded.release(get_settings())
    if users:
        click.echo(f"still in use by process {', '.join(map(str, users))}", err=True)
        return int(ExitCode.INFRASTRUCTURE)
    click.echo("stopped", err=True)
    return int(ExitCode.OK)


def _show(endpoints: embedded.Endpoints) -> None:
    for name, value in endpoints.environment().items():
        click.echo(f"{name}={redact_url(value)}")


@click.group()
def db() -> None:
    """The database schema."""


@db.command("upgrade")
def upgrade() -> None:
    """Bring the schema to the version that this code needs."""
    from tickover.ground import migrate
    from tickover.ground.database import engine

    with embedded.use(get_settings()) as endpoints:
        target = engine(endpoints.database_url)
        before, after = migrate.current(target), migrate.upgrade(target)
        click.echo(f"schema {after}" + (" (nothing to do)" if before == after else f", was {before or 'empty'}"))


@db.command("current")
def current() -> int:
    """Say which version the schema has; exit code 2 if it is not that of this code."""
    from tickover.ground import migrate
    from tickover.ground.database import engine

    with embedded.use(get_settings()) as endpoints:
        found, head = migrate.current(engine(endpoints.database_url)), migrate.head()
    click.echo(f"schema {found or 'empty'}")
    if found != head:
        click.echo(f"this code needs {head}; run `tickover db upgrade`", err=True)
        return int(ExitCode.USAGE)
    return int(ExitCode.OK)


COMMANDS: list[click.Command] = [servers, db]
