"""Command `report`."""

from __future__ import annotations

import json

import click


@click.command("report")
@click.argument("run", required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def report(run: str | None, as_json: bool) -> None:
    """Say what a run found (without a name: the latest): counts, timings, findings, what was not observed."""
    from reports.summary import render, summarise
    from shadow.session import open_store

    with open_store() as store:
        summary = summarise(store, run)
    click.echo(json.dumps(summary.to_json(), ensure_ascii=False) if as_json else render(summary))


COMMANDS: list[click.Command] = [report]
