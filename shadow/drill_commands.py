"""Commands `drill`, `drills` and `faults`."""

from __future__ import annotations

import datetime as dt
import json
import secrets
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from tickover.errors import ConfigurationError

if TYPE_CHECKING:
    from shadow.drill import DrillGround, Sides
    from shadow.drill_store import DrillRecord, DrillStore
    from shadow.faults import Shot

# The scale of a drill's waits where nothing is said: a tick of half a minute takes a second or two.
TIME_SCALE = 0.05


@click.command("drill")
@click.argument("run", required=False)
@click.option("--faults", default="standard", metavar="standard|FILE.toml", help="Which faults to inject.")
@click.option("--trials", type=click.IntRange(1), default=None, help="Trials of each kind.  [default: the plan's, 5]")
@click.option(
    "--time-scale", type=click.FloatRange(0, min_open=True), default=TIME_SCALE,
    help="Of the workload's waits and limits; servers, leases and sweeps stay real.",
)  # fmt: skip
@click.option("--seed", type=int, default=None, help="Decides all that is random.  [default: drawn and printed]")
@click.option("--kind", default=None, metavar="KIND", help="One trial of this kind, to look at: no evidence.")
@click.option("--step", default=None, metavar="STEP", help="The step that the one trial strikes.")
@click.option("--resume", metavar="DRILL", default=None, help="Go on with a drill that was interrupted.")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON.")
def drill(
    run: str | None, faults: str, trials: int | None, time_scale: float, seed: int | None, kind: str | None,
    step: str | None, resume: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Inject faults into both systems, on copies of a run's ticks (without a name: the latest run's).

    Servers, workers and the old system's process are the drill's own. What it shows joins the report of each run with
    the same code, workload and limits.
    """
    from shadow.drill import Drill, prepare
    from shadow.drill_store import DrillStore
    from shadow.session import open_store

    if step is not None and kind is None:
        raise ConfigurationError("--step belongs to one trial: name its --kind too, as the trial's own line does")
    context = click.get_current_context()
    given = [name for name in ("faults", "trials", "time_scale", "seed", "kind", "run")
             if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE]  # fmt: skip
    if resume is not None and given:
        raise ConfigurationError(f"--resume goes on with the drill's own plan: leave out {', '.join(given)}")
    with open_store() as store:
        drills = DrillStore(store.engine)
        if resume is not None:
            record = drills.drill(resume)
            ground = prepare(store, drills, record.run, record.time_scale)
        else:
            ground = prepare(store, drills, run, time_scale)
            record = _create(drills, ground, faults, trials, seed, kind, step)
        click.echo(
            f"drill {record.drill} of run {record.run}: {len(record.shots)} trials at scale {record.time_scale:g}",
            err=True,
        )  # fmt: skip
        progress = _Progress(record, ground, len(drills.done(record.drill)))
        try:
            Drill(record, ground, drills, progress.tell).run(lambda text: click.echo(text, err=True))
        except KeyboardInterrupt:
            click.echo(
                f"\nstopped; finished trials are kept, and `tickover drill --resume {record.drill}` goes on", err=True
            )
            raise click.exceptions.Abort from None
        _show(store.run(record.run).plan.candidate.value, drills, record, as_json)


def _create(
    drills: DrillStore, ground: DrillGround, faults: str, trials: int | None, seed: int | None, kind: str | None,
    step: str | None,
) -> DrillRecord:  # fmt: skip
    from shadow.drill import new_drill_name
    from shadow.faults import Shot, check_step, kind_of, load_plan, shots

    name = new_drill_name(dt.datetime.now(dt.UTC))
    seed = secrets.randbelow(10**9) if seed is None else seed
    if kind is None:
        plan = load_plan(faults)
        chosen = shots(plan, ground.possible, trials=trials, seed=seed)
        if not chosen:
            raise ConfigurationError(f"the plan {plan.name} has no fault that can strike a step of this workload")
        click.echo(f"plan {plan.name}, --seed {seed}", err=True)
        plan_name = plan.name
    else:
        can = ground.possible[kind_of(kind, "--kind").name]
        if step is not None:
            check_step(kind, step, can)
        if not can:
            raise ConfigurationError(f"{kind} can strike no step in run {ground.record.run}")
        chosen = [Shot(kind=kind, steps=(step,) if step is not None else can, seed=seed)]
        plan_name = "one trial"
    drills.create(
        name, ground.record.run, ground.record.behaviour_key, plan_name, chosen, ground.time_scale,
        is_evidence=kind is None,
    )  # fmt: skip
    return drills.drill(name)


class _Progress:
    """Prints a line for each trial, and on a terminal how far the drill is."""

    def __init__(self, record: DrillRecord, ground: DrillGround, done: int) -> None:
        self._record, self._done, self._before = record, done, done
        self._begun = time.monotonic()
        self._terminal = sys.stderr.isatty()

    def tell(self, number: int, shot: Shot, tick: int, sides: Sides) -> None:
        """Show what a trial came to, and the line that runs it again."""
        self._done += 1
        total = len(self._record.shots)
        left_s = (time.monotonic() - self._begun) / (self._done - self._before) * (total - self._done)
        said = "; ".join(
            f"{system.value} {_said(shot.kind, facts.to_json())}" for system, facts in sorted(sides.items())
        )
        if self._terminal:
            sys.stderr.write("\r\x1b[K")
        click.echo(f"#{number} {shot.kind} in {shot.step()}, tick {tick}: {said}", err=True)
        click.echo(
            f"   again: tickover drill {self._record.run} --kind {shot.kind} --step {shot.step()} --seed {shot.seed}"
            f" --time-scale {self._record.time_scale:g}", err=True,
        )  # fmt: skip
        line = f"{self._done}/{total} trials, about {_clock(left_s)} left"
        if self._terminal and self._done < total:
            sys.stderr.write(line)
            sys.stderr.flush()
        elif not self._terminal and self._done % 5 == 0:
            click.echo(line, err=True)


def _said(kind: str, facts: Mapping[str, object]) -> str:
    """What one system did, in a few words."""
    seconds = facts["seconds"]
    if facts["recovered"]:
        did = "confined it" if kind == "permanent_error" else "recovered"
        return did if seconds is None else f"{did} in {seconds:.1f} s"
    return f"did not recover ({facts['reason']})"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def _show(candidate: str, drills: DrillStore, record: DrillRecord, as_json: bool) -> None:
    trials = drills.trials(record.drill)
    if as_json:
        click.echo(json.dumps({
            "drill": record.drill, "run": record.run, "evidence": record.is_evidence, "trials": [
                {"trial": trial.trial, "kind": trial.kind, "step": trial.step, "seed": trial.seed, "tick": trial.tick,
                 **{system.value: side["facts"] for system, side in trial.sides.items()}}
                for trial in trials
            ],
        }))  # fmt: skip
        return
    click.echo(f"{'fault':<20}{'trials':>7}{'legacy':>9}{'async':>8}{'seconds':>9}{'lost':>6}{'doubled':>9}")
    for kind in dict.fromkeys(trial.kind for trial in sorted(trials, key=lambda trial: trial.kind)):
        _row(kind, [{s.value: side["facts"] for s, side in trial.sides.items()}
                    for trial in trials if trial.kind == kind])  # fmt: skip
    click.echo(f"`tickover diff {record.drill} TRIAL` shows one of them", err=True)
    click.echo(
        f"`tickover report {record.run}` has them" if record.is_evidence
        else "a single trial is there to be looked at, and no evidence in any report", err=True,
    )  # fmt: skip


def _row(kind: str, trials: list[dict[str, dict[str, object]]]) -> None:
    import statistics

    old = [trial["legacy"] for trial in trials if "legacy" in trial]
    new = [trial["async"] for trial in trials if "async" in trial]
    took = [float(str(side["seconds"])) for side in new if side["recovered"] and side["seconds"] is not None]
    olds = f"{sum(bool(side['recovered']) for side in old)}/{len(old)}" if old else "n/a"
    news = f"{sum(bool(side['recovered']) for side in new)}/{len(new)}"
    median = f"{statistics.median(took):.2f}" if took else "–"
    lost, doubled = (sum(int(str(side[name])) for side in new) for name in ("lost", "doubled"))
    click.echo(f"{kind:<20}{len(trials):>7}{olds:>9}{news:>8}{median:>9}{lost:>6}{doubled:>9}")


@click.command("drills")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def drills(as_json: bool) -> None:
    """List the latest drills."""
    from shadow.drill_store import DrillStore
    from shadow.session import open_store

    with open_store() as store:
        kept = DrillStore(store.engine)
        rows = [
            {"drill": each.drill, "run": each.run, "plan": each.name, "done": len(kept.done(each.drill)),
             "trials": len(each.shots), "scale": each.time_scale, "evidence": each.is_evidence}
            for each in kept.drills()
        ]  # fmt: skip
    if as_json:
        click.echo(json.dumps(rows))
        return
    if not rows:
        click.echo("no drill yet; `tickover drill` injects faults on copies of the latest run's ticks", err=True)
    for row in rows:
        click.echo(
            f"{row['drill']}  {row['done']} of {row['trials']} trials  {row['plan']}  of run {row['run']}"
        )  # fmt: skip


@click.group("faults")
def faults() -> None:
    """The kinds of fault that a drill can inject."""


@faults.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_(as_json: bool) -> None:
    """List the kinds of fault."""
    from dataclasses import asdict

    from shadow.faults import KINDS

    if as_json:
        click.echo(json.dumps([asdict(kind) for kind in KINDS.values()]))
        return
    for kind in KINDS.values():
        na = "" if kind.on_legacy else "; the old system has no counterpart"
        click.echo(f"{kind.name:<18} {kind.what}{na}")


@faults.command("show")
@click.argument("kind")
def show(kind: str) -> None:
    """Show one kind of fault: what it does, where, and when a system has recovered from it."""
    from shadow.faults import kind_of

    found = kind_of(kind, "faults show")
    since = "the step's limit" if found.since == "limit" else "the fault"
    click.echo(f"{found.name}: {found.what}")
    click.echo(f"  in the old system: {found.on_legacy or 'no counterpart'}")
    click.echo(f"  can strike: steps {found.steps}" if found.steps != "any" else "  can strike: any step")
    click.echo(f"  recovered: as an undisturbed run, the step running again within {found.window_s:g} s of {since}")
    click.echo(f"  needs: {found.power}")


COMMANDS: list[click.Command] = [drill, drills, faults]
