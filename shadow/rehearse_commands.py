"""Command `rehearse`."""

from __future__ import annotations

import contextlib
import json
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from async_tick.route_commands import home_of, place_option, run_option
from async_tick.surroundings import surroundings, workload_option
from tickover.errors import ConfigurationError, ExitCode
from tickover.ground.settings import environment, get_settings
from tickover.loading import load_workload

if TYPE_CHECKING:
    from shadow.rehearsal import Rehearsed
    from tickover.workflow import Workflow

# What the scripted services of a rehearsal draw their answers from.
_SEED = 7


@click.command("rehearse")
@workload_option
@run_option
@place_option
@click.option("--ticks", type=click.IntRange(1), default=1, show_default=True, help="That each system runs in a row.")
@click.option("--limit", "limit_s", type=click.FloatRange(1), default=600.0, show_default=True,
              help="Seconds that each of these rows may take.")  # fmt: skip
@click.option(
    "--live", is_flag=True, help="Call what the ticks call in earnest, not the workload's scripted services."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def rehearse(
    workload: str | None, run: str, home: Path | None, ticks: int, limit_s: float, live: bool, as_json: bool
) -> int:  # fmt: skip
    """Make switchover and rollback on a copy, and say how long each took and what was checked.

    Home and state are copied between two ticks; database, broker, worker and loop are the rehearsal's own. Nothing is
    delivered, and nothing is left behind. Exit code 1 if something did not hold.
    """
    name = workload or get_settings().workload
    workflow = load_workload(name)
    _check(workflow, name, live=live)
    with _ended_by_sigterm(), surroundings(workload, broker=False):
        done = _rehearse(workflow, name, run, home_of(home, run), ticks, limit_s, live=live)
    if as_json:
        click.echo(json.dumps({**asdict(done), "holds": done.holds}))
    else:
        _show(done)
    return int(ExitCode.OK if done.holds else ExitCode.NOT_READY)


def _check(workflow: Workflow, workload: str, *, live: bool) -> None:
    from async_tick.serving import legacy_is_there

    if not legacy_is_there(workflow):
        raise ConfigurationError(f"{workload} has no old system to go back to: a rehearsal has nothing to rehearse")
    if workflow.services is None and not live:
        raise ConfigurationError(
            f"{workload} has no scripted services, so the ticks of a rehearsal call what they call in earnest (their "
            "effects are not delivered); add --live if they may"
        )


def _rehearse(
    workflow: Workflow, workload: str, run: str, home: Path, ticks: int, limit_s: float, *, live: bool
) -> Rehearsed:  # fmt: skip
    from tickover.ground import migrate
    from tickover.ground.database import engine
    from tickover.ground.raw import resolve_url
    from tickover.ground.redis_server import RedisServer
    from tickover.ground.scratch import scratch_database

    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tickover-rehearsal-")))
        size = _copy(workflow, run, home, scratch / "home")
        url = stack.enter_context(scratch_database(resolve_url(), "tickover_rehearsal"))
        target = engine(url)
        stack.callback(target.dispose)
        migrate.upgrade(target)
        (scratch / "broker").mkdir()
        broker = RedisServer(scratch / "broker", scratch / "broker" / "sockets")
        stack.enter_context(broker.start())
        env = {
            "DATABASE_URL": url, "REDIS_URL": broker.url(), "TICKOVER_WORKLOAD": workload,
            "CELERY_BROKER_URL": broker.url().replace("unix://", "redis+socket://", 1),
        }  # fmt: skip
        if workflow.services is not None and not live:
            env.update(stack.enter_context(workflow.services(get_settings().time_scale, _SEED)))
        stack.enter_context(environment(env))
        _say(f"a copy of {home} ({size / 1e6:.1f} MB), a database, a broker, a worker and a loop of its own")
        return _play(workflow, workload, scratch, env, ticks, limit_s)


def _play(
    workflow: Workflow, workload: str, scratch: Path, env: dict[str, str], ticks: int, limit_s: float
) -> Rehearsed:  # fmt: skip
    # Only now: what these import connects to what the environment names.
    from async_tick.listener import listener
    from shadow.rehearsal import Rehearsal

    settings = get_settings()
    try:
        return Rehearsal(
            workflow, workload, scratch / "home", time_scale=settings.time_scale, model_url=settings.model_url,
            env=env, logs=scratch, ticks=ticks, limit_s=limit_s, say=_say,
        ).play()  # fmt: skip
    finally:
        listener().stop()


def _say(text: str) -> None:
    click.echo(text, err=True)


def _copy(workflow: Workflow, run: str, home: Path, target: Path) -> int:
    """Copy the home as it is between two ticks, with the state of the run; bytes of the copy."""
    from async_tick.adoption import latest_state
    from async_tick.handover import is_behind
    from async_tick.route import between_ticks
    from tickover.ground.copying import copy_folder, size_of

    known = copy_folder(home, target) if home.is_dir() else {}
    with between_ticks() as connection:
        if home.is_dir():
            copy_folder(home, target, known)
        number, state = latest_state(run, workflow, connection)
        behind = is_behind(run, number, home, connection)
    if behind and workflow.write_state is not None:
        workflow.write_state(target, state)
    return size_of(target)


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the command as Ctrl-C does, so that nothing is left behind."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _show(done: Rehearsed) -> None:
    width = max(len(act.name) for act in done.acts)
    for act in done.acts:
        pause = "" if act.pause_s is None else f", {act.pause_s:.3f} s between two ticks"
        click.echo(f"  {act.name:<{width}}  took {act.took_s:.2f} s{pause}")
    for fact in done.facts:
        click.echo(f"  {'ok    ' if fact.holds else 'FAILED'}  {fact.name}")
    if done.not_done:
        click.echo(f"  note    {done.not_done} ticks failed, or were lost; that is no matter of the moves")


COMMANDS: list[click.Command] = [rehearse]
