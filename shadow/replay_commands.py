"""Commands `replay`, `backtest` and `timeouts`: what a recorded run says of the port and its limits; nothing is
stored."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from tickover.errors import ConfigurationError, ExitCode
from tickover.ground.settings import environment, get_settings

if TYPE_CHECKING:
    from shadow.replay import Replayer
    from shadow.store import RunRecord, Store
    from shadow.timeouts import Suggestion

_GOOD = ("match", "tolerated", "improved")

on_miss_option = click.option(
    "--on-miss", type=click.Choice(["fail", "live"]), default="fail", show_default=True, show_envvar=True,
    help="What a call of the port does that is on no tape.",
)  # fmt: skip


@click.command("replay")
@click.argument("run")
@click.argument("tick", type=int)
@on_miss_option
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def replay(run: str, tick: int, on_miss: str, as_json: bool) -> int:
    """Run a recorded tick again through the port as it is now, in this process, and compare it with the control.

    It starts from the tick's state, on its tape and its draws; nothing is stored, and nobody waits. Exit codes: 0
    for match, improved and tolerated, 1 for anything else.
    """
    from shadow.diff_text import tick_lines
    from shadow.session import open_store

    with open_store() as store:
        record = store.run(run)
        with _replayer(store, record, on_miss) as replayer:
            found = replayer.replay(tick)
    comparison = found.comparison.to_json()
    sides = {"control": found.control, "port": found.port}
    seen = {name: side.to_json() for name, side in sides.items() if side is not None}
    if as_json:
        document = {"comparison": comparison, "was": found.was, "observations": seen}
        click.echo(json.dumps(document, ensure_ascii=False))
    else:
        click.echo("\n".join(tick_lines(record.run, tick, comparison, seen)))
        was = "" if found.was is None else f"; in the run it was: {found.was}"
        click.echo(f"run again in this process, nothing is stored{was}", err=True)
    return int(ExitCode.OK if found.comparison.kind.value in _GOOD else ExitCode.NOT_READY)


@contextlib.contextmanager
def _replayer(store: Store, record: RunRecord, on_miss: str) -> Iterator[Replayer]:
    from shadow.replay import Replayer
    from tickover.loading import load_workload

    workflow = load_workload(record.plan.workload)
    with contextlib.ExitStack() as stack:
        if on_miss == "live" and get_settings().model_url is None and workflow.services is not None:
            env = stack.enter_context(workflow.services(record.plan.time_scale, record.plan.seed))
            stack.enter_context(environment(env))
        replayer = Replayer(store, record, workflow, get_settings(), on_miss=on_miss)
        stack.callback(replayer.close)
        yield replayer


@click.group("timeouts")
def timeouts() -> None:
    """Limits of steps."""


@timeouts.command("suggest")
@click.argument("run", required=False)
@click.option(
    "--quantile", type=click.FloatRange(0.5, 0.9999), default=0.99, show_default=True, show_envvar=True,
    help="Share of attempts that the limit is to leave room for.",
)  # fmt: skip
@click.option(
    "--margin", type=click.FloatRange(1.0), default=1.5, show_default=True, show_envvar=True,
    help="What the upper bound of that quantile is multiplied with.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def suggest(run: str | None, quantile: float, margin: float, as_json: bool) -> None:
    """Propose step limits from what a run saw (without a name: the latest), in seconds at scale 1.

    The limit is the quantile's upper bound, which is wrong with 5 % at most, times the margin. On each tick the
    slower system counts. The output can be appended to .env.
    """
    from shadow.session import open_store
    from shadow.timeouts import read_durations
    from shadow.timeouts import suggest as propose

    with open_store() as store:
        record = store.run(run)
        found = propose(
            read_durations(store.engine, record.run), record.graph.order, time_scale=record.plan.time_scale,
            quantile=quantile, margin=margin,
        )  # fmt: skip
    now = _limits_now(record)
    if as_json:
        click.echo(json.dumps({
            "run": record.run, "time_scale": record.plan.time_scale, "quantile": quantile, "margin": margin,
            "steps": {each.step: {**dataclasses.asdict(each), "limit_now_s": now.get(each.step)} for each in found},
        }))  # fmt: skip
        return
    scale = record.plan.time_scale
    if scale != 1:
        click.echo(
            f"# run {record.run} is scaled to {scale:g}: in these limits what the machinery takes counts "
            f"{1 / scale:g} times"
        )
    for each in found:
        click.echo(_remark(each, now.get(each.step), quantile))
        if each.limit_s is not None:
            click.echo(f"TICKOVER_STEP_TIMEOUTS__{each.step.upper()}={each.limit_s:g}")


def _limits_now(record: RunRecord) -> dict[str, float]:
    """The limits in force for the run's workload; none where it is not to be had any more."""
    from async_tick.steps import step_limits
    from tickover.errors import WorkloadNotFound
    from tickover.loading import load_workload

    try:
        return step_limits(load_workload(record.plan.workload), get_settings())
    except WorkloadNotFound as error:
        click.echo(f"limits in force are not shown: {error}", err=True)
        return {}


def _remark(each: Suggestion, now_s: float | None, quantile: float) -> str:
    parts = [] if now_s is None else [f"limit now {now_s:g} s"]
    if each.bound_s is not None:
        parts.append(f"p{quantile * 100:g} at most {each.bound_s:.3g} s, value {each.rank} of {each.n}")
    if each.why is not None:
        parts.append(each.why)
    if each.old_slower:
        parts.append(f"the old system was slower on {each.old_slower}")
    if each.cut_off and each.limit_s is not None:
        parts.append(f"the limit struck on {each.cut_off}")
    if each.retried:
        parts.append(f"{each.retried} were tried again, of which only the last attempt is known")
    return f"# {each.step}: {'; '.join(parts)}"


@click.command("backtest")
@click.argument("run", required=False)
@on_miss_option
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def backtest(run: str | None, on_miss: str, as_json: bool) -> int:
    """Run all recorded ticks of a run (without a name: the latest) through the port as it is now, without waiting.

    Counts and findings are a stratum of their own: nothing is stored, and no verdict rests on them. Exit codes: 0 if
    no tick is a mismatch or a failure of the port, 1 otherwise.
    """
    from shadow.backtest import Backtest
    from shadow.progress import Progress
    from shadow.session import open_store

    with open_store() as store:
        record = store.run(run)
        ticks = [tick.tick for tick in store.ticks(record.run)]
        if not ticks:
            raise ConfigurationError(f"run {record.run} has no ticks to run again")
        progress, found = Progress(len(ticks)), Backtest()
        with _replayer(store, record, on_miss) as replayer:
            try:
                for tick in ticks:
                    replayed = replayer.replay(tick)
                    found.add(replayed)
                    progress.tell(tick, replayed.comparison)
            except KeyboardInterrupt:
                click.echo(f"\nstopped after {found.ticks} of {len(ticks)} ticks; nothing was stored", err=True)
                raise click.exceptions.Abort from None
    if as_json:
        click.echo(json.dumps({"run": record.run, "stratum": "backtest", "evidence": False, **found.to_json()}))
    else:
        click.echo("\n".join(found.lines(record.run)))
    return int(ExitCode.OK if found.is_good else ExitCode.NOT_READY)


COMMANDS: list[click.Command] = [replay, backtest, timeouts]
