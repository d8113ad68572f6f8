"""What the doctor sees without asking anyone: settings, limits, the data directory."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from async_tick.doctor.finding import Finding, ok, problem, warning
from async_tick.limits import HARD_MARGIN_S
from async_tick.steps import step_limits
from tickover.errors import TickoverError
from tickover.ground.settings import Settings
from tickover.workflow import Workflow

# After how long a broker gives an unacknowledged message to another worker, in seconds: kombu's default for Redis.
VISIBILITY_S = 3600.0
# Room in the data directory: below the first, days are counted; below the second, the next ticks are in danger.
ROOM_WARNING, ROOM_PROBLEM = 2_000_000_000, 200_000_000


def setting_findings(settings: Settings) -> list[Finding]:
    """What the settings say by themselves."""
    return [_lease(settings), _result_backend(settings), _scale(settings), pool_finding("settings", settings.pool)]


def workload_findings(settings: Settings, workflow: Workflow, transport: dict[str, Any]) -> list[Finding]:
    """What settings and workload say together. transport: the broker's options as the application has them."""
    return [*_limits(settings, workflow, transport), _services(settings, workflow)]


def _lease(settings: Settings) -> Finding:
    lease_s, beat_s = settings.lease_s, settings.heartbeat_s
    said = f"a lease of {lease_s:g} s is renewed every {beat_s:g} s"
    if lease_s < 2 * beat_s:
        return problem(
            "lease", f"{said}: one late renewal, and a step is taken from a worker that lives",
            f"set TICKOVER_HEARTBEAT_S={lease_s / 6:g}, or TICKOVER_LEASE_S={6 * beat_s:g}",
        )  # fmt: skip
    return ok("lease", said)


def _result_backend(settings: Settings) -> Finding:
    if settings.result_backend:
        return warning(
            "result backend", "CELERY_RESULT_BACKEND is set, and unused: results are checkpoints in PostgreSQL",
            "unset CELERY_RESULT_BACKEND; `tickover checkpoints` lists the results",
        )  # fmt: skip
    return ok("result backend", "none is set, none is needed")


def _scale(settings: Settings) -> Finding:
    if settings.time_scale != 1.0:
        return warning(
            "time scale",
            f"TICKOVER_TIME_SCALE={settings.time_scale:g}: waits and step limits are not those of real time",
            "unset TICKOVER_TIME_SCALE where ticks count",
        )  # fmt: skip
    return ok("time scale", "real time")


def pool_finding(who: str, pool: str) -> Finding:
    """What a pool does with a step's limit. who: the worker, or "settings". pool: its name, or its class."""
    kind = next((kind for kind in ("prefork", "thread", "solo", "gevent", "eventlet") if kind in pool), pool)
    name = "pool" if who == "settings" else f"pool of {who}"
    remedy = "use --pool=prefork (TICKOVER_POOL=prefork), which ends the process of such a step"
    if kind == "prefork":
        return ok(name, "prefork: a step that ignores its limit is ended with its process")
    if kind == "thread":
        return warning(
            name, "threads: a step that blocks in one call is not interrupted at its limit; its thread stays behind",
            f"right where steps wait on the network with a timeout of their own; else {remedy}",
        )  # fmt: skip
    if kind == "solo":
        return problem(
            name, "solo: a step that ignores its limit stops this worker for good, and it answers nothing meanwhile",
            remedy,
        )  # fmt: skip
    return problem(
        name, f"{kind}: a step that does not yield is not interrupted, and holds up all the others", remedy
    )


def _limits(settings: Settings, workflow: Workflow, transport: dict[str, Any]) -> list[Finding]:
    try:
        limits = step_limits(workflow, settings)
    except TickoverError as error:
        said, _, remedy = str(error).partition("; ")
        return [problem("step limits", said, remedy or "mend TICKOVER_STEP_TIMEOUTS__...")]
    # A worker may go on with step after step in the same message, which is acknowledged after the last.
    longest_s = sum(limits[step.name] * settings.time_scale + HARD_MARGIN_S for step in workflow.steps)
    visible_s = float(transport.get("visibility_timeout", VISIBILITY_S))
    said = f"the steps of a tick may hold one message for {longest_s:g} s, the broker waits for {visible_s:g} s"
    if longest_s >= visible_s:
        return [warning(
            "step limits", f"{said} and then gives it to another worker: nothing is done twice, but it costs a claim",
            "lower the limits (`tickover workflow show`), or set visibility_timeout in broker_transport_options",
        )]  # fmt: skip
    return [ok("step limits", said)]


def _services(settings: Settings, workflow: Workflow) -> Finding:
    if settings.model_url is None and workflow.services is not None:
        return warning(
            "services", "no TICKOVER_MODEL_URL: the workload's own scripted services answer",
            "set TICKOVER_MODEL_URL=http://HOST:11434 where ticks count",
        )  # fmt: skip
    return ok("services", "named by the settings" if settings.model_url else "the workload has none of its own")


def disk_finding(data_dir: Path, *, enough: int = ROOM_WARNING, least: int = ROOM_PROBLEM) -> Finding:
    """How much room the data directory has, in bytes, and whether it can be written."""
    place = next(path for path in (data_dir, *data_dir.parents) if path.exists())
    if not os.access(place, os.W_OK | os.X_OK):
        return problem(
            "disk",
            f"{place} cannot be written by this user",
            "give it the right, or set TICKOVER_DATA_DIR to another",
        )
    free = shutil.disk_usage(place).free
    said = f"{free / 1e9:.1f} GB free for {data_dir}"
    remedy = "make room, set TICKOVER_DATA_DIR to a larger disk, or delete old logs in its folder logs"
    if free < least:
        return problem("disk", f"{said}: the next ticks may find none", remedy)
    if free < enough:
        return warning("disk", said, remedy)
    return ok("disk", said)
