"""Commands `report` and `plan`."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reports import leftover_commands, switch_commands
from tickover.errors import ConfigurationError, ExitCode

if TYPE_CHECKING:
    from reports.policy import Policy
    from shadow.store import Store

# How often `--watch` looks again, in seconds.
WATCH_EVERY_S = 2.0
_CODES = {"READY": ExitCode.OK, "NOT_READY": ExitCode.NOT_READY, "KEEP_RUNNING": ExitCode.KEEP_RUNNING}


@click.command("report")
@click.argument("run", required=False)
@click.option(
    "--policy",
    metavar="NAME|FILE",
    default=None,
    show_envvar=True,
    help="production, scaled, or a TOML file.  [default: production, for scaled runs scaled]",
)
@click.option("--html", type=click.Path(dir_okay=False), metavar="FILE", help="Write one page that opens offline.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, by reports/schema/report.schema.json.")
@click.option(
    "--markdown",
    is_flag=False,
    flag_value="-",
    default=None,
    type=click.Path(dir_okay=False, allow_dash=True),
    metavar="[FILE]",
    help="As Markdown, to a file or to standard output.",
)
@click.option("--watch", is_flag=True, help="Look again until Ctrl-C, or until it is decided.")
@click.option(
    "--fail-under",
    type=click.Choice(["READY", "KEEP_RUNNING"], case_sensitive=False),
    default=None,
    show_envvar=True,
    help="End with 0 if the verdict is at least this, for CI; without it each verdict has a code of its own.",
)
@click.option("--explain", metavar="CRITERION", help="List the ticks behind a figure.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Ticks that --explain lists.")
@click.option(
    "--verify", is_flag=True, help="Compute the stored verdict again, and recount what it was computed from."
)
def report(
    run: str | None, policy: str | None, html: str | None, as_json: bool, markdown: str | None, watch: bool,
    fail_under: str | None, explain: str | None, limit: int, verify: bool,
) -> int:  # fmt: skip
    """Say whether it is safe to switch, why, and what is still needed (without a name: for the latest run).

    Exit codes: 0 READY, 1 NOT_READY, 4 KEEP_RUNNING.
    """
    if sum((as_json, markdown == "-", watch, explain is not None, verify)) > 1:
        raise ConfigurationError(
            "choose one of --json, --markdown to standard output, --watch, --explain and --verify"
        )
    if watch and (html is not None or markdown is not None):
        raise ConfigurationError("--watch writes to the terminal alone; leave out --html and --markdown")
    with _open_store() as store:
        if verify:
            return _verify(store, run)
        chosen, source = _policy(store, run, policy)
        if explain is not None:
            return _explain(store, run, chosen, explain, limit)
        if watch:
            return _code(_watch(store, run, chosen, source), fail_under)
        return _code(_once(store, run, chosen, source, html, markdown, as_json), fail_under)


@click.command("plan")
@click.option(
    "--every", required=True, metavar="DURATION", show_envvar=True, help="Interval at scale 1, as 60s or 5m."
)
@click.option("--policy", metavar="NAME|FILE", default=None, show_envvar=True, help="One policy instead of both.")
@click.option("--time-scale", type=float, default=1.0, show_default=True, help="1 is real time.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def plan(every: str, policy: str | None, time_scale: float, as_json: bool) -> None:
    """Say before a run begins when READY can be had at the earliest, per policy."""
    import dataclasses

    from reports.plan import plan as plan_of
    from reports.plan_text import render
    from reports.policy import BUILT_IN, load_policy
    from tickover.ground.units import duration_s

    every_s = duration_s(every)
    if every_s <= 0 or not time_scale > 0:
        raise ConfigurationError("a plan needs an interval and a time scale above 0: --every 60s")
    names = [policy] if policy else list(BUILT_IN)
    plans = [(load_policy(name), plan_of(load_policy(name), every_s, time_scale)) for name in names]
    if as_json:
        click.echo(json.dumps({chosen.name: dataclasses.asdict(found) for chosen, found in plans}))
        return
    click.echo("\n\n".join(render(chosen, found, every_s, time_scale) for chosen, found in plans))


@contextlib.contextmanager
def _open_store() -> Iterator[Store]:
    """The store of the database in use; a report needs no broker."""
    from shadow.store import Store
    from tickover.ground.commands import ready_database
    from tickover.ground.database import engine

    with ready_database(broker=False) as endpoints:
        yield Store(engine(endpoints.database_url))


def _policy(store: Store, run: str | None, named: str | None) -> tuple[Policy, str]:
    from reports.policy import load_policy

    name = named or ("scaled" if store.run(run).plan.time_scale < 1 else "production")
    return load_policy(name), name


def _once(
    store: Store, run: str | None, policy: Policy, source: str, html: str | None, markdown: str | None, as_json: bool
) -> str:
    """Write the report in the forms that were asked for; the verdict."""
    from reports.build import build

    built = build(store, run, policy, source, now=dt.datetime.now(dt.UTC))
    if html is not None:
        from reports.curves import details
        from reports.html import render as page

        _write(html, page(built.report, details(store, built, policy)))
    if markdown is not None:
        from reports.markdown import render as as_markdown

        text = as_markdown(built.report)
        if markdown == "-":
            click.echo(text, nl=False)
        else:
            _write(markdown, text)
    if as_json:
        click.echo(json.dumps(built.report.to_json(), ensure_ascii=False, allow_nan=False))
    elif markdown != "-":
        from reports.terminal import render

        click.echo(render(built.report, colour=_wants_colour(), width=_width()), color=_wants_colour())
    return built.report.verdict.status


def _watch(store: Store, run: str | None, policy: Policy, source: str) -> str:
    """Show the report again and again; the last verdict. Ends when a run has ended, or with Ctrl-C."""
    import threading

    from reports.build import build
    from reports.terminal import render

    status, name, stop = "KEEP_RUNNING", store.run(run).run, threading.Event()
    screen = sys.stdout.isatty()
    with contextlib.suppress(KeyboardInterrupt), _alternate_screen(screen):
        while True:
            built = build(store, name, policy, source, now=dt.datetime.now(dt.UTC))
            status = built.report.verdict.status
            lines = render(built.report, colour=_wants_colour(), width=_width()).splitlines()
            if screen:
                room = max(5, shutil.get_terminal_size().lines - 1)
                shown = "\n".join(f"{line}\x1b[K" for line in lines[:room])
                foot = (
                    f"{built.report.made_at:%H:%M:%S} UTC, again every {WATCH_EVERY_S:g} s; Ctrl-C ends\x1b[K\x1b[J"
                )
                click.echo(f"\x1b[H{shown}\n{foot}", nl=False, color=True)
            else:
                click.echo("\n".join([*lines, ""]))
            if built.report.run.status != "running":
                break
            stop.wait(WATCH_EVERY_S)
    if screen:
        click.echo("\n".join(lines), color=_wants_colour())
    return status


def _explain(store: Store, run: str | None, policy: Policy, criterion: str, limit: int) -> int:
    from reports.explain import explain, render

    click.echo(render(explain(store, run, policy, criterion, limit)))
    return int(ExitCode.OK)


def _verify(store: Store, run: str | None) -> int:
    from reports.verify import render, verify_run

    found = verify_run(store, run)
    click.echo(render(found))
    return int(ExitCode.OK if not found.differs else ExitCode.NOT_READY)


def _code(status: str, fail_under: str | None) -> int:
    if fail_under is None:
        return int(_CODES[status])
    order = ["NOT_READY", "KEEP_RUNNING", "READY"]
    return int(ExitCode.OK if order.index(status) >= order.index(fail_under.upper()) else _CODES[status])


def _write(path: str, text: str) -> None:
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}; name a file that can be written") from error
    click.echo(f"wrote {path}", err=True)


def _width() -> int:
    """Columns of the terminal; where there is none, those that the report is made for."""
    from reports.terminal import WIDTH

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH


def _wants_colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


@contextlib.contextmanager
def _alternate_screen(screen: bool) -> Iterator[None]:
    if screen:
        click.echo("\x1b[?1049h\x1b[?25l\x1b[2J", nl=False, color=True)
    try:
        yield
    finally:
        if screen:
            click.echo("\x1b[?25h\x1b[?1049l", nl=False, color=True)


COMMANDS: list[click.Command] = [report, plan, *switch_commands.COMMANDS, *leftover_commands.COMMANDS]
