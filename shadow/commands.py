"""Commands `shadow`, `diff`, `findings` and `recompare`."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from async_tick.comparing import comparing
from shadow import drill_commands, rehearse_commands, replay_commands, run_commands
from tickover.errors import ConfigurationError
from tickover.ground.settings import get_settings

if TYPE_CHECKING:
    from shadow.plan import RunPlan


@click.command("shadow")
@click.option("--ticks", type=click.IntRange(1), show_envvar=True, help="How many ticks; with --resume, in all.")
@click.option("--for", "for_", metavar="DURATION", show_envvar=True, help="How long, as 24h or 90m, at scale 1.")
@click.option(
    "--every", default=None, metavar="DURATION", show_envvar=True, help="Interval at scale 1.  [default: 60s]"
)
@click.option(
    "--time-scale", type=float, default=None, show_envvar=True, help="1 is real time, 0.01 a hundred times faster."
)
@click.option(
    "--seed", type=int, default=7, show_default=True, show_envvar=True, help="Of scripted services and order."
)
@click.option("--workload", default=None, metavar="MODULE:NAME", show_envvar=True, help="The job to run.")
@click.option(
    "--mode", type=click.Choice(["record", "paired"]), default="record", show_default=True, show_envvar=True
)
@click.option(
    "--candidate", type=click.Choice(["async", "legacy"]), default="async", show_default=True, show_envvar=True
)
@click.option(
    "--home",
    type=click.Path(file_okay=False),
    default=None,
    show_envvar=True,
    help="The old system's own home; without it a fresh one is made.",
)
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=8,
    show_default=True,
    show_envvar=True,
    help="Threads of the worker that is started where none is there; 0 starts none.",
)
@comparing()
@click.option(
    "--resume", metavar="RUN", default=None, help="Go on with a run that was interrupted, or make one longer."
)
@click.option("--json", "as_json", is_flag=True, help="The result as JSON.")
def shadow(
    ticks: int | None, for_: str | None, every: str | None, time_scale: float | None, seed: int, workload: str | None,
    mode: str, candidate: str, home: str | None, workers: int, rules_file: str | None, noise: float,
    on_miss: str, resume: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Run both systems side by side on the same ticks, and compare them."""
    from shadow.plan import Mode, RunPlan, new_run_name
    from shadow.progress import Progress
    from shadow.rules import load_rules
    from shadow.session import open_store, run_plan
    from tickover.execution import System
    from tickover.ground.units import duration_s

    settings = get_settings()
    if resume is not None:
        if any(given is not None for given in (for_, workload, rules_file)):
            raise ConfigurationError(
                "--resume goes on with the run's own plan and rules: leave out --for, --workload and --rules"
            )
        with open_store() as store:
            plan = _longer(store.run(resume).plan, ticks)
            done = len(store.ticks(resume)) - len(store.uncompared(resume))
    else:
        if (ticks is None) == (for_ is None):
            raise ConfigurationError("say how long: either --ticks N or --for 24h")
        every_s = duration_s(every) if every is not None else 60.0
        if ticks is None:
            assert for_ is not None
            if every_s == 0:
                raise ConfigurationError("--for needs an interval above 0 s; use --ticks with --every 0s")
            ticks = max(1, round(duration_s(for_) / every_s))
        plan = RunPlan(
            run=new_run_name(dt.datetime.now(dt.UTC)), workload=workload or settings.workload, ticks=ticks,
            every_s=every_s, time_scale=time_scale or settings.time_scale, seed=seed, mode=Mode(mode),
            candidate=System(candidate), on_miss=on_miss, home=home, noise=noise,
        )  # fmt: skip
        done = 0
    rules = None if rules_file is None else load_rules(rules_file)
    click.echo(f"run {plan.run}: {plan.count} ticks every {plan.interval_s:g} s", err=True)
    progress = Progress(plan.count, done)
    try:
        run_plan(
            plan, resume=resume is not None, workers=workers, tell=progress.tell,
            say=lambda text: click.echo(text, err=True), rules=rules,
        )  # fmt: skip
    except KeyboardInterrupt:
        click.echo(f"\nstopped; `tickover shadow --resume {plan.run}` goes on", err=True)
        raise click.exceptions.Abort from None
    with open_store() as store:
        counts = {kind.value: count for kind, count in store.counts(plan.run).items() if count}
    if as_json:
        click.echo(json.dumps({"run": plan.run, "ticks": plan.ticks, "counts": counts}))
    else:
        click.echo(f"run {plan.run}: " + ", ".join(f"{count} {kind}" for kind, count in counts.items()))
        click.echo(f"`tickover report {plan.run}` shows what it found", err=True)


def _longer(plan: RunPlan, ticks: int | None) -> RunPlan:
    """The plan of a run that is to have so many ticks in all; None: as many as it has."""
    if ticks is None:
        return plan
    if plan.ticks is None:
        raise ConfigurationError(f"run {plan.run} goes on for as long as its loop does; leave out --ticks")
    if ticks < plan.ticks:
        raise ConfigurationError(
            f"run {plan.run} has {plan.ticks} ticks; --ticks with --resume says how many in all, which can be more"
        )
    return replace(plan, ticks=ticks)


@click.command("findings")
@click.argument("run", required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def findings(run: str | None, as_json: bool) -> None:
    """List what differs in a run (without a name: the latest), equal causes as one finding."""
    from shadow.session import open_store
    from shadow.signature import findings as gather

    with open_store() as store:
        found = gather(store.sightings(store.run(run).run))
    if as_json:
        click.echo(json.dumps([finding.to_json() for finding in found]))
        return
    if not found:
        click.echo("nothing differs", err=True)
    for finding in found:
        click.echo(finding.sentence)


@click.command("diff")
@click.argument("run")
@click.argument("tick", type=int)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def diff(run: str, tick: int, as_json: bool) -> None:
    """Show both systems' outputs, effects and timeline of one tick; of a drill and one of its trials likewise."""
    from shadow.diff_text import tick_lines
    from shadow.drill_text import trial_document, trial_lines
    from shadow.session import open_store

    with open_store() as store:
        trial = trial_document(store.engine, run, tick)
        if trial is not None:
            click.echo(json.dumps(trial) if as_json else "\n".join(trial_lines(trial)))
            return
        name = store.run(run).run
        comparison = store.comparison(name, tick)
        if comparison is None:
            raise ConfigurationError(
                f"run {name} has no comparison of tick {tick}; `tickover report {name}` counts them"
            )
        seen = {purpose.value: found.to_json() for purpose, found in store.observations(name, tick).items()}
    if as_json:
        click.echo(json.dumps({"comparison": comparison, "observations": seen}, ensure_ascii=False))
        return
    click.echo("\n".join(tick_lines(name, tick, comparison, seen)))


@click.command("recompare")
@click.argument("run", required=False)
@click.option("--rules", "rules_file", type=click.Path(dir_okay=False), required=True, help="The rules, as TOML.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def recompare(run: str | None, rules_file: str, as_json: bool) -> None:
    """Say what other rules would make of a run (without a name: the latest). Hindsight: nothing is stored."""
    from shadow.recompare import recompare as again
    from shadow.rules import load_rules
    from shadow.session import open_store

    rules = load_rules(rules_file)
    with open_store() as store:
        record = store.run(run)
        found = again(store, record, rules)
    if as_json:
        click.echo(json.dumps({
            "run": record.run, "hindsight": True, "before": {k.value: n for k, n in found.before.items()},
            "after": {k.value: n for k, n in found.after.items()}, "hidden": dict(found.hidden),
            "changed": {tick: [was.value, now.value] for tick, (was, now) in found.changed.items()},
        }))  # fmt: skip
        return
    click.echo(f"{record.run} under {rules_file}, in hindsight: rules written after the fact prove nothing")
    for kind in sorted(found.before | found.after):
        click.echo(f"  {kind.value:<17} {found.before[kind]:6d}  ->  {found.after[kind]:6d}")
    for rule, count in found.hidden.most_common():
        click.echo(f"  rule {rule} hides something on {count} ticks")
    if not found.changed:
        click.echo("  no tick would be judged differently")


COMMANDS: list[click.Command] = [
    shadow,
    *run_commands.COMMANDS,
    diff,
    findings,
    recompare,
    *replay_commands.COMMANDS,
    *drill_commands.COMMANDS,
    *rehearse_commands.COMMANDS,
]
