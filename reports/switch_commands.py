"""Command `switchover`. It stands here because it asks for the verdict, which `shadow` does not know."""

from __future__ import annotations

import dataclasses
import datetime as dt
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from async_tick.route_commands import author_option, home_of, place_option, run_option
from async_tick.surroundings import surroundings, workload_option
from tickover.errors import ConfigurationError, ExitCode
from tickover.execution import System
from tickover.ground.settings import get_settings

if TYPE_CHECKING:
    from async_tick.guardrails import Guardrails
    from async_tick.route import Route
    from reports.policy import Policy
    from shadow.preflight import Check
    from tickover.workflow import Workflow


@dataclass(frozen=True, kw_only=True, slots=True)
class _Judged:
    """What the evidence says; immutable. baseline_ms: the old system's median, None where it is not known."""

    checks: tuple[Check, ...]
    run: str | None = None
    verdict: str | None = None
    baseline_ms: float | None = None


@click.command("switchover")
@click.argument("evidence", metavar="[RUN]", required=False)
@workload_option
@run_option
@place_option
@click.option("--policy", metavar="NAME|FILE", default="production", show_default=True, show_envvar=True)
@click.option("--dry-run", is_flag=True, help="Check and show the plan; do nothing and keep nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Although a check failed; needs --reason, and is recorded for good.")
@click.option("--reason", default=None, show_envvar=True, help="Why, for the record.")
@author_option
@click.option(
    "--backup",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    show_envvar=True,
    help="New folder for the backup.  [default: backups/switchover-TIME in the data directory]",
)
@click.option("--no-backup", is_flag=True, help="Make none; needs --force.")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0),
    default=120.0,
    show_default=True,
    show_envvar=True,
    help="Seconds to wait for the new system's first tick.",
)
def switchover(
    evidence: str | None, workload: str | None, run: str, home: Path | None, policy: str, dry_run: bool, yes: bool,
    force: bool, reason: str | None, author: str | None, folder: Path | None, no_backup: bool, wait_s: float,
) -> int:  # fmt: skip
    """Put the new system in charge, on the evidence of a shadow run (RUN; without it the latest).

    Checks and plan are shown first; nothing is done without --yes or an answer. `rollback` is the way back.

    Exit codes: 0 done, 1 a check failed or the new system went back at once, 4 the verdict is still open.
    """
    if force and not reason:
        raise ConfigurationError("--force needs --reason: it stays on record")
    if no_backup and folder is not None:
        raise ConfigurationError("--backup names a folder, and --no-backup wants none; leave out one of them")
    from reports.policy import load_policy

    chosen = load_policy(policy)
    with surroundings(workload):
        return _Switchover(
            run, home_of(home, run), chosen, policy, None if no_backup else _folder(folder), force=force
        ).command(evidence, dry_run=dry_run, yes=yes, reason=reason, author=author, wait_s=wait_s)


class _Switchover:
    """One call of the command."""

    def __init__(
        self, run: str, home: Path, policy: Policy, source: str, folder: Path | None, *, force: bool
    ) -> None:  # fmt: skip
        from tickover.loading import load_workload

        self.run, self.home, self.policy, self.source = run, home, policy, source
        self.folder, self.force = folder, force
        self.workflow: Workflow = load_workload(get_settings().workload)

    def command(
        self, evidence: str | None, *, dry_run: bool, yes: bool, reason: str | None, author: str | None, wait_s: float
    ) -> int:  # fmt: skip
        """Look, show, ask, and do it."""
        from async_tick.route import read_route
        from reports.switch_plan import render_checks
        from shadow.preflight import route_checks
        from shadow.switchover import require

        seen = read_route()
        if seen.owner is not System.LEGACY:
            raise ConfigurationError("the new system is in charge already; `tickover route` shows since when")
        judged = _judge(self.workflow, evidence, self.policy, self.source)
        checks = [*route_checks(seen), *self._checks(), *judged.checks]
        guardrails = self._guardrails(judged)
        click.echo(f"checks, under policy {self.policy.name}")
        click.echo(render_checks(checks))
        self._show_plan(seen, guardrails)
        if dry_run:
            click.echo("dry run: nothing was done")
        require(checks, judged.verdict, force=self.force)
        if dry_run:
            return int(ExitCode.OK)
        if not yes and not _agreed():
            click.echo("nothing was done")
            return int(ExitCode.NOT_READY)
        now = self._switch(seen, checks, judged, guardrails, reason, author)
        return self._first_tick(now, wait_s)

    def _checks(self) -> list[Check]:
        from async_tick.doctor import examine
        from async_tick.worker import live_workers
        from shadow.preflight import backup_check, state_check, surroundings_checks

        return [
            *surroundings_checks(examine(), live_workers()),
            state_check(self.workflow, self.run, self.home),
            backup_check(self.folder, self.home),
        ]

    def _guardrails(self, judged: _Judged) -> Guardrails:
        from async_tick.guarding import median_of_legacy
        from async_tick.guardrails import Guardrails

        baseline_ms = median_of_legacy(self.run)
        return Guardrails(
            **dataclasses.asdict(self.policy.guardrails),
            baseline_ms=judged.baseline_ms if baseline_ms is None else baseline_ms,
        )

    def _show_plan(self, seen: Route, guardrails: Guardrails) -> None:
        from async_tick.adoption import latest_state
        from async_tick.loop import loop_is_there
        from reports.switch_plan import Plan, render_plan

        plan = Plan(
            seen=seen, run=self.run, tick=latest_state(self.run, self.workflow)[0], home=self.home,
            served=loop_is_there(self.run), backup=self.folder, guardrails=guardrails,
        )  # fmt: skip
        click.echo("plan")
        click.echo(render_plan(plan))

    def _switch(
        self, seen: Route, checks: Sequence[Check], judged: _Judged, guardrails: Guardrails, reason: str | None,
        author: str | None,
    ) -> Route:  # fmt: skip
        from shadow.switch_backup import make
        from shadow.switch_store import Basis
        from shadow.switchover import switch
        from tickover.ground.raw import resolve_url

        if self.folder is not None:
            click.echo("backing up, and restoring once to prove it ...", err=True)
            made = make(resolve_url(), self.workflow, self.run, self.home, self.folder)
            click.echo(
                f"backup: {made.folder}, {made.rows} rows and the home as before tick {made.tick}, restored once"
            )
            if made.note is not None:
                click.echo(f"note: {made.note}")
        basis = Basis(
            run=self.run, home=str(self.home), evidence_run=judged.run, policy=self.policy.name,
            verdict=judged.verdict, failed=(), backup=None if self.folder is None else str(self.folder),
            quiet_hours=self.policy.switchover.quiet_hours,
        )  # fmt: skip
        click.echo("moving at the next boundary between two ticks ...", err=True)
        now = switch(
            seen, checks, basis, reason=reason or f"verdict READY under {self.policy.name}", author=author,
            guardrails=guardrails,
        )  # fmt: skip
        click.echo(f"async is in charge, epoch {now.epoch}")
        return now

    def _first_tick(self, now: Route, wait_s: float) -> int:
        from async_tick.loop import loop_is_there
        from async_tick.route import Route
        from shadow.switchover import await_first_tick

        back = (
            'back: tickover rollback --reason "..."; `tickover route` shows the guardrails and what is used of them'
        )
        if not loop_is_there(self.run):
            click.echo(f"no loop serves run {self.run}: `tickover serve --run {self.run}` begins with the new system")
            click.echo(back)
            return int(ExitCode.OK)
        click.echo(f"waiting for the new system's first tick, {wait_s:g} s at most ...", err=True)
        found = await_first_tick(
            self.run, now, wait_s, say=lambda tick: click.echo(f"tick {tick.tick} has begun", err=True)
        )
        if isinstance(found, Route):
            click.echo(f"{found.owner} is in charge again, epoch {found.epoch}, by {found.author}: {found.reason}")
            return int(ExitCode.NOT_READY)
        if found is None:
            click.echo(
                "no tick of it has ended yet; `tickover status` shows what runs, `tickover route` who is in charge"
            )
        else:
            click.echo(f"tick {found.tick}: async {found.outcome} in {(found.duration_s or 0) * 1000:.0f} ms")
        click.echo(back)
        return int(ExitCode.OK)


def _agreed() -> bool:
    """The answer at the prompt. Raises ConfigurationError where there is nobody to ask."""
    if not sys.stdin.isatty():
        raise ConfigurationError("nothing was done: there is no terminal to ask at; read the plan, and add --yes")
    return click.confirm("put the new system in charge?")


def _folder(named: Path | None) -> Path:
    default = f"switchover-{dt.datetime.now(dt.UTC):%Y%m%d-%H%M%S}"
    return named.absolute() if named is not None else get_settings().data_dir / "backups" / default


def _judge(workflow: Workflow, run: str | None, policy: Policy, source: str) -> _Judged:
    """Verdict and evidence of a shadow run (None: the latest), as checks."""
    from reports.build import build
    from reports.evidence import newest_age
    from shadow.preflight import Check, evidence_checks
    from shadow.store import Store, UnknownRun
    from tickover.ground.database import engine

    store, settings = Store(engine()), get_settings()
    try:
        record = store.run(run)
    except UnknownRun as error:
        return _Judged(checks=(Check(name="verdict", passed=False, said=str(error)),))
    report = build(store, record.run, policy, source, now=dt.datetime.now(dt.UTC)).report
    status = report.verdict.status
    why = "" if status == "READY" else f"; `tickover report {record.run} --policy {source}` says why"
    verdict = Check(
        name="verdict", passed=status == "READY", said=f"{status} under {policy.name}, run {record.run}{why}"
    )
    comparable = report.speed is not None and record.plan.time_scale == settings.time_scale
    return _Judged(
        checks=(
            verdict,
            *evidence_checks(
                record, workflow, settings.workload, newest_age(store, record.run), policy.switchover.evidence_hours
            ),
        ),
        run=record.run, verdict=status,
        baseline_ms=report.speed.control_ms["p50"] if comparable and report.speed is not None else None,
    )  # fmt: skip


COMMANDS: list[click.Command] = [switchover]
