"""Command `switchover`. It stands here because it asks for the verdict, which `shadow` does not know."""

from __future__ import annotations

import datetime as dt

import click

from shadow.switchover import Check
from tickover.errors import ConfigurationError
from tickover.ground.settings import get_settings


@click.command("switchover")
@click.argument("run", required=False)
@click.option("--policy", metavar="NAME|FILE", default="production", show_default=True, show_envvar=True)
@click.option("--dry-run", is_flag=True, help="Check and show the plan; do nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Although a check failed; needs --reason, and is recorded for good.")
@click.option("--reason", default=None, show_envvar=True, help="Why, for the record.")
@click.option("--author", default=None, show_envvar=True, help="Who acts.  [default: user and host]")
def switchover(
    run: str | None, policy: str, dry_run: bool, yes: bool, force: bool, reason: str | None, author: str | None
) -> None:
    """Put the new system in charge, on the evidence of a shadow run (without a name: the latest).

    Checks and plan are shown first; nothing is done without --yes or an answer. `rollback` is the way back.
    """
    from async_tick.route import read_route
    from async_tick.surroundings import surroundings
    from shadow.switchover import surroundings_checks, switch
    from tickover.loading import load_workload

    if force and not reason:
        raise ConfigurationError("--force needs --reason: it stays on record")
    with surroundings(None):
        workflow = load_workload(get_settings().workload)
        seen = read_route()
        checks = [*surroundings_checks(seen, workflow), *_evidence(run, policy)]
        for check in checks:
            click.echo(f"  {'ok    ' if check.passed else 'FAILED'}  {check.name:<16} {check.said}")
        click.echo(
            f"plan: at the next boundary between ticks the new system takes over from epoch {seen.epoch} to "
            f"{seen.epoch + 1}; `tickover rollback --reason ...` goes back"
        )
        if dry_run:
            click.echo("dry run: nothing was done")
            return
        may = force or all(check.passed for check in checks)
        if may and not yes and not click.confirm("put the new system in charge?"):
            click.echo("nothing was done")
            return
        now = switch(seen, checks, reason=reason or f"verdict READY under {policy}", author=author, force=force)
    click.echo(f"async is in charge, epoch {now.epoch}")


def _evidence(run: str | None, policy: str) -> list[Check]:
    from reports.build import build
    from reports.policy import load_policy
    from shadow.store import Store, UnknownRun
    from shadow.switchover import evidence_check
    from tickover.ground.database import engine
    from tickover.loading import load_workload

    store, chosen = Store(engine()), load_policy(policy)
    try:
        record = store.run(run)
    except UnknownRun as error:
        return [Check(name="verdict", passed=False, said=str(error))]
    built = build(store, record.run, chosen, policy, now=dt.datetime.now(dt.UTC))
    status = built.report.verdict.status
    verdict = Check(
        name="verdict", passed=status == "READY",
        said=f"{status} under {policy}, run {record.run}"
        + ("" if status == "READY" else f"; `tickover report {record.run} --policy {policy}` says why"),
    )  # fmt: skip
    return [verdict, evidence_check(record, load_workload(record.plan.workload), get_settings().workload)]


COMMANDS: list[click.Command] = [switchover]
