"""What the engine's commands run in: servers, schema, the workload's services, and a worker where none is there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import click

from tickover.ground.commands import ready_database
from tickover.ground.settings import get_settings, reset_settings
from tickover.loading import load_workload


@contextlib.contextmanager
def surroundings(workload: str | None, *, services: bool = False) -> Iterator[None]:
    """Servers, schema, the workload's name and, where wanted, its scripted services, for a command's duration."""
    name = workload or get_settings().workload
    workflow = load_workload(name)
    with contextlib.ExitStack() as stack:
        stack.enter_context(ready_database())
        os.environ["TICKOVER_WORKLOAD"] = name
        reset_settings()
        if services and get_settings().model_url is None and workflow.services is not None:
            os.environ.update(stack.enter_context(workflow.services(get_settings().time_scale, 7)))
            reset_settings()
            click.echo("no TICKOVER_MODEL_URL: the workload's own scripted services answer", err=True)
        yield


def own_worker(threads: int) -> contextlib.AbstractContextManager[None]:
    """A worker for a command's duration, unless one is there."""
    from async_tick.worker import keep_worker

    logs = get_settings().data_dir.expanduser().absolute() / "logs"
    return keep_worker(logs, threads=threads, name="own", say=lambda text: click.echo(text, err=True))


workload_option = click.option("--workload", default=None, metavar="MODULE:NAME", show_envvar=True, help="The job.")
