"""What the engine's commands run in: servers, schema, the workload's services, and a worker where none is there."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType

import click

from tickover.ground.commands import ready_database
from tickover.ground.settings import get_settings, reset_settings
from tickover.loading import load_workload


@contextlib.contextmanager
def surroundings(workload: str | None, *, services: bool = False, broker: bool = True) -> Iterator[None]:
    """Servers, schema, the workload's name and, where wanted, its scripted services, for a command's duration.
    broker: False for what must work without one."""
    name = workload or get_settings().workload
    workflow = load_workload(name)
    with contextlib.ExitStack() as stack:
        stack.enter_context(ready_database(broker=broker))
        os.environ["TICKOVER_WORKLOAD"] = name
        reset_settings()
        if services and get_settings().model_url is None and workflow.services is not None:
            os.environ.update(stack.enter_context(workflow.services(get_settings().time_scale, 7)))
            reset_settings()
            click.echo("no TICKOVER_MODEL_URL: the workload's own scripted services answer", err=True)
        yield


@contextlib.contextmanager
def own_worker(threads: int, *, waits: bool = True) -> Iterator[None]:
    """A worker for a command's duration, unless one is there. waits: False for a command that has work without one,
    as has a loop while the old system is in charge: then it is no error if none comes up."""
    from async_tick.worker import keep_worker

    logs = get_settings().data_dir.expanduser().absolute() / "logs"
    say = lambda text: click.echo(text, err=True)  # noqa: E731 - a name for one expression
    with keep_worker(logs, threads=threads, name="own", say=say, waits=waits):
        yield


@contextlib.contextmanager
def ending_by_signal(stop: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM calls `stop`, which ends what runs in good order; the second one interrupts it."""
    told = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal told
        if told:
            raise KeyboardInterrupt
        told = True
        click.echo("ends after the running tick; once more ends at once", err=True)
        stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


workload_option = click.option("--workload", default=None, metavar="MODULE:NAME", show_envvar=True, help="The job.")
