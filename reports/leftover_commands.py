"""Command `leftovers`."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from async_tick.route_commands import home_of
from async_tick.surroundings import surroundings, workload_option
from tickover.errors import ExitCode
from tickover.ground.settings import get_settings
from tickover.loading import load_workload

if TYPE_CHECKING:
    from collections.abc import Iterable

    from async_tick.route import Route
    from reports.leftovers import Leftover, Quiet


@click.command("leftovers")
@workload_option
@click.option("--policy", metavar="NAME|FILE", default=None, show_envvar=True,
              help="Whose quiet period counts.  [default: that of the switchover]")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def leftovers(workload: str | None, policy: str | None, as_json: bool) -> int:
    """Say what can be deleted once the new system has been in charge for the policy's quiet period, and how; before
    that, when it will be over. It deletes nothing.

    Exit codes: 0 it is over, 1 the old system is in charge, 4 not yet.
    """
    from async_tick.route import read_route
    from reports.leftovers import leftovers as find
    from reports.leftovers import quiet_period, to_json
    from reports.policy import load_policy
    from shadow.switch_store import kept
    from tickover.execution import System
    from tickover.ground.database import engine

    hours = load_policy(policy or "production").switchover.quiet_hours
    with surroundings(workload, broker=False):
        settings, route, bases = get_settings(), read_route(), kept()
        quiet = quiet_period(route, None if policy else bases.get(route.epoch), hours)
        now = dt.datetime.now(dt.UTC)
        found: list[Leftover] = []
        if quiet.is_over(now):
            homes = {Path(basis.home) for basis in bases.values()} or {home_of(None, "main")}
            found = find(
                engine(), load_workload(settings.workload), settings.workload, settings.data_dir, sorted(homes),
                bases.values(),
            )  # fmt: skip
    if as_json:
        click.echo(json.dumps(to_json(route, quiet, found, now)))
    else:
        _show(route, quiet, found, now)
    if route.owner is System.LEGACY:
        return int(ExitCode.NOT_READY)
    return int(ExitCode.OK if quiet.is_over(now) else ExitCode.KEEP_RUNNING)


def _show(route: Route, quiet: Quiet, found: Iterable[Leftover], now: dt.datetime) -> None:
    since = f"{route.owner} is in charge since {quiet.since:%Y-%m-%d %H:%M} UTC, epoch {route.epoch}"
    if quiet.over_at is None:
        click.echo(f"{since}: nothing may be deleted")
        return
    if not quiet.is_over(now):
        left = (quiet.over_at - now).total_seconds() / 3600
        click.echo(f"{since}; the quiet period is {quiet.hours:g} h")
        click.echo(f"not yet: it is over at {quiet.over_at:%Y-%m-%d %H:%M} UTC, in {left:.1f} h")
        click.echo("until then a rollback needs the old system, its home and the backups")
        return
    click.echo(f"{since}; the quiet period of {quiet.hours:g} h is over")
    click.echo("this can be deleted; nothing was. After it there is no rollback: `tickover db backup FOLDER` first.")
    for each in found:
        size = "" if each.size_bytes is None else f"  {each.size_bytes / 1e6:.1f} MB"
        click.echo(f"  {each.kind:<7} {each.what}{size}")
        click.echo(f"          {each.how}")
    click.echo("  outside what started the old system before there was a route: a cron entry, a unit, a script")


COMMANDS: list[click.Command] = [leftovers]
