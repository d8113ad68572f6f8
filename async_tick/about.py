"""What a worker says of itself when asked at the broker: `about`, for `doctor`."""

from __future__ import annotations

from functools import cache
from typing import Any

from celery.worker.control import inspect_command

from async_tick.steps import step_limits
from tickover import __version__
from tickover.canonical import digest
from tickover.code import code_of, modules_of
from tickover.ground.settings import get_settings
from tickover.loading import load_workload

# The command's name at the broker, apart from what other applications there may call theirs.
COMMAND = "tickover_about"


@cache
def code_here(workload: str) -> str:
    """A hash of the source of a workload's steps, as it was when this process first asked. A worker asks as it
    starts, and goes on with that code whatever stands on disk later."""
    names = sorted(modules_of(workload, load_workload(workload)))
    return digest([[name, code_of(name)] for name in names])[:12]


def about_here() -> dict[str, Any]:
    """What this process runs: Tickover's version, and workload, workflow, version, code and limits of steps at scale
    1."""
    settings = get_settings()
    workflow = load_workload(settings.workload)
    return {
        "tickover": __version__, "workload": settings.workload, "workflow": workflow.name,
        "version": workflow.version, "code": code_here(settings.workload), "limits": step_limits(workflow, settings),
    }  # fmt: skip


@inspect_command(name=COMMAND)  # type: ignore[untyped-decorator]
def about(state: Any, **_: Any) -> dict[str, Any]:
    """What this worker runs."""
    return about_here()
