"""Commands `servers` and `db`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tickover.errors import ExitCode
from tickover.ground.secrets import redact_url

if TYPE_CHECKING:
    from tickover.ground.servers import Endpoints

# Heavy modules are imported inside the commands: the command line must be there at once.


@contextlib.contextmanager
def ready_database(*, broker: bool = True) -> Iterator[Endpoints]:
    """The servers for a command's duration, with the schema as this code needs it, and their URLs in the environment
    and the settings.

    Embedded databases are brought up to date; one that the user names is not touched, and refused if it is not
    current. broker: False for a command that needs no broker. Raises PendingMigrations, SchemaTooNew, DatabaseTooOld,
    DatabaseUnreachable, and what `servers.use` raises.
    """
    from tickover.ground import servers
    from tickover.ground.raw import schema_is_current
    from tickover.ground.settings import environment, get_settings

    settings = get_settings()
    with servers.use(settings, broker=broker) as endpoints:
        say_started(endpoints, settings.data_dir)
        with environment(endpoints.environment()):
            try:
                # What needs neither ORM nor Alembic, as a rollback does, is not to wait until they are loaded.
                if not schema_is_current():
                    _make_current(endpoints.database_url, embedded=settings.embedded_database)
                yield endpoints
            finally:
                if database := sys.modules.get("tickover.ground.database"):
                    database.dispose_engines()


def _make_current(url: str, *, embedded: bool) -> None:
    """Bring an embedded database up to date; raise what is wrong with one that the user names."""
    from tickover.ground import migrate
    from tickover.ground.database import engine

    if embedded:
        migrate.upgrade(engine(url))
    else:
        migrate.require_current(engine(url))


def say_started(endpoints: Endpoints, data_dir: Path) -> None:
    if endpoints.started:
        names = {"postgres": "PostgreSQL", "redis": "Redis"}
        started = " and ".join(names[name] for name in endpoints.started)
        click.echo(f"started embedded {started}, data in {data_dir}", err=True)


@click.group("servers")
def servers_group() -> None:
    """The embedded PostgreSQL and Redis of the data directory."""


@servers_group.command()
def start() -> None:
    """Start them and have them stay until `servers stop`; prints their URLs."""
    from tickover.ground import servers
    from tickover.ground.settings import get_settings

    endpoints = servers.keep(get_settings())
    if not endpoints.embedded:
        click.echo("nothing to start: DATABASE_URL and CELERY_BROKER_URL name servers of your own", err=True)
    say_started(endpoints, get_settings().data_dir)
    _show(endpoints)


@servers_group.command()
def status() -> int:
    """Say whether they run, where, and who uses them; exit code 3 if they do not run."""
    from tickover.ground import servers
    from tickover.ground.settings import get_settings

    settings = get_settings()
    endpoints = servers.running(settings)
    if endpoints is None:
        click.echo(f"no embedded servers run in {settings.data_dir}; `tickover servers start` starts them", err=True)
        return int(ExitCode.INFRASTRUCTURE)
    _show(endpoints)
    if endpoints.embedded:
        for name, pid in servers.processes(settings).items():
            click.echo(f"{name}: process {pid}", err=True)
        users = servers.users(settings)
        click.echo(f"used by process {', '.join(map(str, users))}" if users else "used by no process", err=True)
    return int(ExitCode.OK)


@servers_group.command()
@click.option("--force", is_flag=True, help="Stop them even if processes use them.")
def stop(force: bool) -> int:
    """Stop them, or, while processes use them, have them end with the last of these (exit code 3)."""
    from tickover.ground import servers
    from tickover.ground.settings import get_settings

    users = servers.release(get_settings(), force=force)
    if users:
        click.echo(
            f"still used by process {', '.join(map(str, users))}; they end with the last of these, "
            "or now with `tickover servers stop --force`",
            err=True,
        )
        return int(ExitCode.INFRASTRUCTURE)
    click.echo("stopped", err=True)
    return int(ExitCode.OK)


def _show(endpoints: Endpoints) -> None:
    for name, value in endpoints.environment().items():
        click.echo(f"{name}={redact_url(value)}")


@click.group()
def db() -> None:
    """The database schema."""


@db.command()
def upgrade() -> None:
    """Bring the schema to the version that this code needs."""
    from tickover.ground import migrate, servers
    from tickover.ground.database import engine
    from tickover.ground.settings import get_settings

    with servers.use(get_settings(), broker=False) as endpoints:
        target = engine(endpoints.database_url)
        before, after = migrate.current(target), migrate.upgrade(target)
    change = "nothing to do" if before == after else f"was {before or 'empty'}"
    click.echo(f"schema {after or 'empty'} ({change})")


@db.command()
def current() -> int:
    """Say which version the schema has; exit code 2 if it is not that of this code."""
    from tickover.ground import migrate, servers
    from tickover.ground.database import engine
    from tickover.ground.settings import get_settings

    with servers.use(get_settings(), broker=False) as endpoints:
        found, head = migrate.current(engine(endpoints.database_url)), migrate.head()
    click.echo(f"schema {found or 'empty'}")
    if found != head:
        click.echo(f"this code needs {head}; run `tickover db upgrade`", err=True)
        return int(ExitCode.USAGE)
    return int(ExitCode.OK)


@db.command("backup")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--prove", "proves", is_flag=True, help="Restore it once, into a database made for that.")
def backup(folder: Path, proves: bool) -> None:
    """Write the database to a new FOLDER, from one snapshot; nobody who works in it is disturbed."""
    from tickover.ground import servers
    from tickover.ground.backup import back_up, prove
    from tickover.ground.settings import get_settings

    with servers.use(get_settings(), broker=False) as endpoints:
        made = back_up(endpoints.database_url, folder)
        proved = ""
        if proves:
            prove(endpoints.database_url, folder)
            proved = ", restored once and found equal"
    click.echo(f"{folder}: {len(made.rows)} tables, {sum(made.rows.values())} rows, schema {made.schema}{proved}")


@db.command("restore")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def restore(folder: Path) -> None:
    """Write a backup into an empty database: of a new TICKOVER_DATA_DIR, or that which DATABASE_URL names."""
    from tickover.ground import servers
    from tickover.ground.backup import restore as write
    from tickover.ground.settings import get_settings

    with servers.use(get_settings(), broker=False) as endpoints:
        made = write(endpoints.database_url, folder)
    click.echo(f"restored {len(made.rows)} tables, {sum(made.rows.values())} rows, as of {made.made_at}")


COMMANDS: list[click.Command] = [servers_group, db]
