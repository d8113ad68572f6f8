"""Commands `runs` and `runs prune`."""

from __future__ import annotations

import datetime as dt
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from tickover.errors import ConfigurationError
from tickover.ground.settings import get_settings
from tickover.ground.units import DURATION

if TYPE_CHECKING:
    from shadow.prune import Pruning
    from shadow.store import RunRecord, Store, UnreadableRun


@click.group("runs", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def runs(context: click.Context, as_json: bool) -> None:
    """List the latest runs, or remove old ones."""
    if context.invoked_subcommand is None:
        _list(as_json)
    elif as_json:
        raise ConfigurationError(f"--json belongs behind {context.invoked_subcommand}: `tickover runs prune --json`")


def _list(as_json: bool) -> None:
    from shadow.session import open_store

    with open_store() as store:
        found = [_row(store, run) for run in store.runs()]
    if as_json:
        click.echo(json.dumps(found))
        return
    if not found:
        click.echo("no run yet; `tickover shadow --ticks 10` makes one", err=True)
    for row in found:
        shown = ", ".join(f"{count} {kind}" for kind, count in row["counts"].items()) or "nothing compared"
        length = "open end" if row["ticks"] is None else f"{row['ticks']} ticks"
        what = f"{row['workload']}  {length}" if row["why"] is None else row["why"]
        goes_on = f"; `{row['goes_on_with']}` goes on" if row["goes_on_with"] else ""
        click.echo(f"{row['run']}  {row['status']:<11}  {what}  {shown}{goes_on}")


def _row(store: Store, run: RunRecord | UnreadableRun) -> dict[str, Any]:
    """What `runs` shows of a run. why: what keeps it from being read, None where nothing does."""
    row: dict[str, Any] = {
        "run": run.run, "status": "unreadable", "workload": None, "ticks": None, "scale": None,
        "started": run.started_at.isoformat(timespec="seconds"),
        "counts": {kind.value: count for kind, count in store.counts(run.run).items() if count},
        "goes_on_with": None, "why": None,
    }  # fmt: skip
    # Not by its class: the store is imported where it is used, and `--help` is not to wait for it.
    if isinstance(run, Exception):
        return row | {"why": run.why}
    status, plan = store.status(run), run.plan
    return row | {
        "status": status, "workload": plan.workload, "ticks": plan.ticks, "scale": plan.time_scale,
        "goes_on_with": None if status in ("running", "done") else plan.goes_on_with,
    }  # fmt: skip


@runs.command("prune")
@click.option(
    "--keep",
    "keep_s",
    type=DURATION,
    required=True,
    metavar="DURATION",
    help="Remove what ended longer ago than this, as 30d.",
)
@click.option("--latest", is_flag=True, help="Also the latest run, which stays otherwise.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="What went, or without --yes what would, as JSON.")
def prune(keep_s: float, latest: bool, yes: bool, as_json: bool) -> None:
    """Remove runs that ended long ago, with all their rows, drills and copies of the old system's home.

    A run that is running or held stays, and so does one that a switchover rests on, that stands beside the loop in
    the present epoch, or whose version has another run that stays. Verdicts stay too: a NOT_READY holds for its
    version. Without --yes and without an answer nothing is removed.
    """
    from shadow.prune import choose, remove
    from shadow.prune_store import PruneStore
    from shadow.session import open_store

    before = _before(keep_s)
    with open_store() as store:
        chosen = choose(PruneStore(store.engine).runs(), before, with_latest=latest)
        if not as_json:
            _show(chosen, err=not yes)
        agreed = bool(chosen.going) and (yes or (not as_json and _agreed(len(chosen.going))))
        gone: list[str] = []
        if agreed:
            root = get_settings().data_dir / "runs"
            gone = remove(store, [run.run for run in chosen.going], before, root, with_latest=latest)
    if as_json:
        click.echo(json.dumps(_document(chosen, gone)))
    elif agreed:
        for run in chosen.going:
            if run.run not in gone:
                click.echo(f"{run.run} stays: it was taken up in the meantime", err=True)
        click.echo(f"{_runs(len(gone))} removed")


def _before(keep_s: float) -> dt.datetime:
    try:
        return dt.datetime.now(dt.UTC) - dt.timedelta(seconds=keep_s)
    except OverflowError:
        raise ConfigurationError("--keep reaches back further than there are dates; write it like 30d") from None


def _show(chosen: Pruning, *, err: bool) -> None:
    for run in chosen.going:
        drills = f", {run.drills} drills" if run.drills else ""
        click.echo(f"{run.run}  last active {run.active_at:%Y-%m-%d}, {run.ticks} ticks{drills}", err=err)
    for run, why in chosen.kept:
        click.echo(f"{run.run} stays: it {why}", err=True)
    if not chosen.going:
        click.echo("no run is to be removed", err=True)


def _agreed(count: int) -> bool:
    """The answer at the prompt. Raises ConfigurationError where there is nobody to ask."""
    if not sys.stdin.isatty():
        raise ConfigurationError("nothing was removed: there is no terminal to ask at; read the list, and add --yes")
    agreed = click.confirm(f"remove {_runs(count)} for good?", err=True)
    if not agreed:
        click.echo("nothing was removed", err=True)
    return agreed


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


def _document(chosen: Pruning, gone: list[str]) -> dict[str, object]:
    return {
        "removed": gone,
        "going": [
            {"run": run.run, "active": run.active_at.isoformat(timespec="seconds"), "ticks": run.ticks,
             "drills": run.drills}
            for run in chosen.going
        ],
        "kept": [{"run": run.run, "why": why} for run, why in chosen.kept],
    }  # fmt: skip


COMMANDS: list[click.Command] = [runs]
