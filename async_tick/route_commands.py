"""Commands `serve`, `route`, `hold`, `release` and `rollback`."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from async_tick.comparing import comparing
from async_tick.surroundings import ending_by_signal, own_worker, surroundings, workload_option
from tickover.errors import ConfigurationError, ExitCode
from tickover.ground.commands import ready_database
from tickover.ground.settings import get_settings
from tickover.ground.units import DURATION
from tickover.loading import load_workload

if TYPE_CHECKING:
    from async_tick.guardrails import Usage
    from async_tick.route import Route


def home_of(home: Path | None, run: str) -> Path:
    return home or get_settings().data_dir.expanduser().absolute() / "home" / run


run_option = click.option(
    "--run", default="main", show_default=True, show_envvar=True, help="Name of the loop's run."
)
place_option = click.option(
    "--home", type=click.Path(file_okay=False, path_type=Path), default=None, show_envvar=True,
    help="The old system's home, and where effects go.  [default: home/RUN in the data directory]",
)  # fmt: skip
author_option = click.option("--author", default=None, show_envvar=True, help="Who acts.  [default: user and host]")


@click.command("serve")
@workload_option
@run_option
@click.option(
    "--every",
    "every_s",
    type=DURATION,
    default="60s",
    show_default=True,
    show_envvar=True,
    help="Between two ticks, at scale 1; 0s runs them back to back.",
)
@click.option("--ticks", type=click.IntRange(1), default=None, show_envvar=True, help="[default: until stopped]")
@place_option
@click.option("--shadow", is_flag=True, help="Run the system that is not in charge beside it, and compare.")
@comparing("With --shadow")
def serve(
    workload: str | None, run: str, every_s: float, ticks: int | None, home: Path | None, shadow: bool,
    rules_file: str | None, noise: float, on_miss: str,
) -> None:  # fmt: skip
    """Run the job's loop: each tick goes to the system in charge, counts once, and its effects are delivered.

    With --shadow the other system runs each tick as well, from the tape, in a sandbox, behind the one in charge; the
    comparisons are kept as those of a shadow run, one run for each epoch.
    """
    from async_tick.beside import load
    from async_tick.guarding import Guard
    from async_tick.loop import Loop
    from async_tick.serving import Server, TickEnd

    def tell(ended: TickEnd, overran: bool) -> None:
        late = ", overran its interval" if overran else ""
        click.echo(
            f"tick {ended.tick}: {ended.owner} {ended.status} in {ended.duration_ms:.0f} ms, "
            f"{ended.effects} effects{late}"
        )

    def say(text: str) -> None:
        click.echo(text, err=True)

    if not shadow and (rules_file is not None or noise or on_miss != "live"):
        raise ConfigurationError("--rules, --noise and --on-miss say how to compare; they need --shadow")
    with surroundings(workload, services=True):
        settings = get_settings()
        workflow, place = load_workload(settings.workload), home_of(home, run)
        beside = None
        if shadow:
            beside = load(
                workflow, settings.workload, run, say, every_s=every_s, rules_file=rules_file, noise=noise,
                on_miss=on_miss, home=place,
            )  # fmt: skip
        server = Server(
            workflow, settings.workload, run, place, time_scale=settings.time_scale, model_url=settings.model_url,
            watch=Guard(run, say), beside=beside,
        )  # fmt: skip
        loop = Loop(server, every_s=every_s)
        with own_worker(settings.concurrency, waits=not server.has_legacy), ending_by_signal(loop.stop):
            loop.serve(ticks, tell)
        if loop.stopped.is_set():
            more = " --shadow" if shadow else ""
            click.echo(f"stopped; `tickover serve --run {run}{more}` goes on", err=True)
            raise click.exceptions.Abort


@click.command("route")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def route(as_json: bool) -> None:
    """Show which system is in charge, since when, by whom and why; guardrails and holds; and how it was before."""
    from async_tick.guarding import usages
    from async_tick.route import history, holds, read_route

    with ready_database(broker=False):
        now, before, held = read_route(), history(), holds()
        used = usages(now)
    document: dict[str, Any] = {
        "owner": now.owner.value, "epoch": now.epoch, "since": now.changed_at.isoformat(timespec="seconds"),
        "author": now.author, "reason": now.reason,
        "holds": [{"number": each.number, "author": each.author, "reason": each.reason,
                   "since": each.created_at.isoformat(timespec="seconds")} for each in held],
        "guardrails": None if now.guardrails is None else {
            "allowed": now.guardrails.to_json(), "used": {run: asdict(usage) for run, usage in used.items()},
        },
        "history": [{"epoch": each.epoch, "owner": each.owner.value, "author": each.author, "reason": each.reason,
                     "at": each.changed_at.isoformat(timespec="seconds"),
                     "guardrails": None if each.guardrails is None else each.guardrails.to_json()}
                    for each in before],
    }  # fmt: skip
    if as_json:
        click.echo(json.dumps(document))
        return
    click.echo(f"{document['owner']} is in charge since {document['since']}, epoch {now.epoch}")
    click.echo(f"  by {now.author}: {now.reason}")
    for each in document["holds"]:
        click.echo(f"held ({each['number']}) since {each['since']} by {each['author']}: {each['reason']}")
    for line in _guardrail_lines(now, used):
        click.echo(line)
    click.echo("history")
    for each in document["history"]:
        click.echo(f"  {each['epoch']:>4}  {each['at']}  {each['owner']:<7} {each['author']}: {each['reason']}")


def _guardrail_lines(now: Route, used: dict[str, Usage]) -> list[str]:
    from async_tick.guardrails import Usage, lines

    if now.guardrails is None:
        return []
    window = now.guardrails.window_ticks
    found = []
    for run, usage in (used or {"": Usage()}).items():
        stand = "over" if usage.ticks >= window else f"in force, {usage.ticks} of {window} ticks"
        found.append(f"guardrails{run and f' of run {run}'}: {stand}")
        found += [f"  {line}" for line in lines(now.guardrails, usage)]
    return found


@click.command("hold")
@click.option("--reason", required=True, show_envvar=True, help="Why nobody should switch.")
@author_option
def hold(reason: str, author: str | None) -> None:
    """Keep the route from moving to the new system until the hold is released. Rollback stays possible."""
    from async_tick.route import hold as take
    from async_tick.route import who

    with ready_database(broker=False):
        number = take(author or who(), reason)
    click.echo(f"hold {number}; `tickover release {number}` ends it")


@click.command("release")
@click.argument("number", type=int)
def release(number: int) -> None:
    """End a hold."""
    from async_tick.route import release as end

    with ready_database(broker=False):
        end(number)
    click.echo(f"hold {number} is released")


@click.command("rollback")
@workload_option
@run_option
@place_option
@click.option("--reason", required=True, show_envvar=True, help="Why, for the record.")
@author_option
@click.option("--force", is_flag=True, help="Do not wait for the new system's running tick; the old one runs it.")
def rollback(
    workload: str | None, run: str, home: Path | None, reason: str, author: str | None, force: bool
) -> int:  # fmt: skip
    """Put the old system back in charge: also when workers, broker or the loop are dead. Nothing that was written
    since the switchover is lost: the old system's store gets the state as the new one left it. A running tick of the
    new system is waited for, ten seconds at most, and only where it can end. Run again, it ends what was cut off."""
    from async_tick.rollback import patiently

    with contextlib.ExitStack() as stack:
        patiently(
            lambda: stack.enter_context(surroundings(workload, broker=False)),
            say=lambda text: click.echo(text, err=True),
        )
        return _roll_back(run, home_of(home, run), reason, author, force)


def _roll_back(run: str, home: Path, reason: str, author: str | None, force: bool) -> int:
    from async_tick.delivery import deliver_all
    from async_tick.rollback import WAIT_S, patiently, roll_back
    from async_tick.route import read_route
    from tickover.execution import System

    workflow, before = load_workload(get_settings().workload), read_route()
    done = roll_back(before, workflow, run, home, author=author, reason=reason, wait_s=0.0 if force else WAIT_S)
    if before.owner is System.LEGACY and (done.loop_is_there or (done.written, done.why_not) == (None, None)):
        raise ConfigurationError("the old system is in charge already; `tickover route` shows since when")
    click.echo(f"legacy is in charge{'' if done.moved else ' already'}, epoch {done.route.epoch}")
    if done.fenced:
        click.echo("a running tick of the new system was cut off: nothing of it counts, the old system runs it")
    if done.loop_is_there:
        click.echo("its store gets the latest state from the loop, before its first tick", err=True)
        return int(ExitCode.OK)
    if done.written is not None:
        click.echo(f"its store in {home} holds the state after tick {done.written}")
    left, why = patiently(lambda: deliver_all(run, workflow, home))
    if left:
        click.echo(
            f"{left} effects of the new system still wait for delivery ({why or 'another process delivers'}); "
            "`tickover serve` tries again", err=True,
        )  # fmt: skip
    if done.why_not is not None:
        click.echo(
            f"error: its store in {home} is not written yet: {done.why_not}; mend that and run `tickover rollback` "
            "again, or `tickover serve`, which writes it before its first tick", err=True,
        )  # fmt: skip
        return int(ExitCode.INFRASTRUCTURE)
    return int(ExitCode.OK)


COMMANDS: list[click.Command] = [serve, route, hold, release, rollback]
