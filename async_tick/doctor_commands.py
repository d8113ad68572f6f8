"""Command `doctor`."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator

import click

from async_tick.surroundings import workload_option
from tickover.errors import ExitCode, TickoverError
from tickover.ground.settings import get_settings, reset_settings


@click.command("doctor")
@workload_option
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def doctor(workload: str | None, as_json: bool) -> int:
    """Look at settings, servers and workers, and say what would hurt, each with its remedy.

    Exit code 1 if something is a problem, 3 if neither database nor broker could be looked at.
    """
    from async_tick.doctor import Level, could_look, examine, worst

    if workload is not None:
        os.environ["TICKOVER_WORKLOAD"] = workload
        reset_settings()
    with _servers_that_can_be_had():
        findings = examine()
    if as_json:
        click.echo(json.dumps([finding.to_json() for finding in findings], ensure_ascii=False))
    else:
        shown = {Level.OK: "ok     ", Level.WARNING: "warning", Level.PROBLEM: "PROBLEM"}
        for finding in findings:
            click.echo(f"{shown[finding.level]}  {finding.name}: {finding.said}")
            if finding.remedy:
                click.echo(f"         -> {finding.remedy}")
        counts = {level: sum(finding.level is level for finding in findings) for level in Level}
        click.echo(", ".join(f"{level} {count}" for level, count in reversed(counts.items())), err=True)
    if not could_look(findings):
        return int(ExitCode.INFRASTRUCTURE)
    return int(ExitCode.NOT_READY if worst(findings) is Level.PROBLEM else ExitCode.OK)


@contextlib.contextmanager
def _servers_that_can_be_had() -> Iterator[None]:
    """Embedded servers for the command's duration, as for every command; without them if they do not start."""
    from tickover.ground import servers
    from tickover.ground.commands import say_started
    from tickover.ground.database import dispose_engines

    settings = get_settings()
    with contextlib.ExitStack() as stack:
        try:
            endpoints = stack.enter_context(servers.use(settings))
        except TickoverError as error:
            click.echo(f"looking without embedded servers: {error}", err=True)
        else:
            say_started(endpoints, settings.data_dir)
            os.environ.update(endpoints.environment())
            reset_settings()
        stack.callback(dispose_engines)
        yield


COMMANDS: list[click.Command] = [doctor]
