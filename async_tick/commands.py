"""Commands `worker`, `once`, `checkpoints`, `status` and `workflow`."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
from pathlib import Path
from typing import Any

import click

from async_tick import doctor_commands, route_commands
from async_tick.surroundings import own_worker, surroundings, workload_option
from tickover.errors import ConfigurationError, ExitCode
from tickover.ground.commands import ready_database
from tickover.ground.settings import get_settings, reset_settings
from tickover.loading import load_workload


@click.command("worker")
@workload_option
@click.option("--pool", type=click.Choice(["prefork", "threads"]), default=None, show_envvar=True)
@click.option("--concurrency", type=click.IntRange(1), default=None, show_envvar=True)
@click.option("--queues", default=None, show_envvar=True, help="Queues, separated by commas.  [default: all]")
def worker(workload: str | None, pool: str | None, concurrency: int | None, queues: str | None) -> int:
    """Run a Celery worker in the foreground; one that ends by itself is started again."""
    from async_tick.worker import run_worker, worker_arguments

    with surroundings(workload):
        settings = get_settings()
        arguments = worker_arguments(
            pool=pool or settings.pool, concurrency=concurrency or settings.concurrency, queues=queues,
            name=f"worker-{os.getpid()}", log_level=settings.log_level,
        )  # fmt: skip
        return run_worker(arguments, lambda text: click.echo(text, err=True))


@click.command("once")
@click.argument("tick", type=click.IntRange(0))
@workload_option
@click.option(
    "--system", type=click.Choice(["legacy", "async"]), default="async", show_default=True, show_envvar=True
)
@click.option("--time-scale", type=float, default=None, show_envvar=True, help="1 is real time.")
def once(tick: int, workload: str | None, system: str, time_scale: float | None) -> int:
    """Run one tick through one system, from the workload's initial state, and print what it did as JSON."""
    if time_scale is not None:
        os.environ["TICKOVER_TIME_SCALE"] = str(time_scale)
        reset_settings()
    with surroundings(workload, services=True):
        document = _once_legacy(tick) if system == "legacy" else _once_async(tick)
    click.echo(json.dumps(document, ensure_ascii=False, indent=2))
    return int(ExitCode.OK if document["status"] == "done" else ExitCode.NOT_READY)


def _once_async(tick: int) -> dict[str, Any]:
    from async_tick import orchestrator
    from tickover.execution import ExecutionKey, Purpose, System

    settings = get_settings()
    workflow = load_workload(settings.workload)
    run = f"once-{dt.datetime.now(dt.UTC):%Y%m%d-%H%M%S-%f}"
    key = ExecutionKey(run=run, tick=tick, system=System.ASYNC, purpose=Purpose.DRILL)
    with own_worker(settings.concurrency):
        ended = orchestrator.execute(key, workflow, state=workflow.start_state(), time_scale=settings.time_scale)
    steps = {
        name: {"status": step.status, "result": step.result, "error": step.error, "duration_ms": step.duration_ms}
        for name, step in ended.steps.items()
    }
    effects = [effect.to_json() for effect in ended.effects]
    return {"execution": str(key), "status": ended.status, "error": ended.error, "steps": steps, "effects": effects}


def _once_legacy(tick: int) -> dict[str, Any]:
    import tempfile

    from tickover.boundary.child import LegacyProcess
    from tickover.boundary.observation import LegacyRequest

    settings = get_settings()
    workflow = load_workload(settings.workload)
    with tempfile.TemporaryDirectory(prefix="tickover-once-") as scratch:
        home = Path(scratch) / "home"
        with LegacyProcess(
            settings.workload, home, time_scale=settings.time_scale, model_url=settings.model_url
        ) as process:
            if workflow.write_state is not None:
                process.write_state(workflow.start_state())
            seen = process.run_tick(LegacyRequest(run="once", tick=tick)).to_json()
    return {
        "status": seen["outcome"], "error": seen["error"], "result": seen["result"], "steps": seen["steps"],
        "effects": seen["effects"],
    }  # fmt: skip


@click.command("checkpoints")
@click.argument("workflow", required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def checkpoints(workflow: str | None, as_json: bool) -> None:
    """List the latest executions, or the checkpoints of one."""
    from async_tick.connection import Connection

    with ready_database():
        connection = Connection("tickover checkpoints")
        if workflow is None:
            rows = connection.rows(
                "SELECT w.execution_id, w.status, w.created_at, count(c.stage) FROM workflows w "
                "LEFT JOIN workflow_checkpoints c ON c.workflow_id = w.id GROUP BY w.id ORDER BY w.id DESC LIMIT 50"
            )
            found = [
                {"execution": row[0], "status": row[1], "created": row[2].isoformat(), "checkpoints": row[3]}
                for row in rows
            ]
        else:
            rows = connection.rows(
                "SELECT c.stage, c.tick_number, c.created_at, c.state FROM workflow_checkpoints c "
                "JOIN workflows w ON w.id = c.workflow_id WHERE w.execution_id = %s ORDER BY c.created_at",
                (workflow,),
            )
            if not rows:
                raise ConfigurationError(f"{workflow!r} has no checkpoints; `tickover checkpoints` lists executions")
            found = [
                {"stage": row[0], "tick": row[1], "created": row[2].isoformat(), "state": json.loads(row[3])}
                for row in rows
            ]
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    for row in found:
        click.echo("  ".join(str(value) for value in row.values())[:200])
    if not found:
        click.echo("no execution yet; `tickover once 0` makes one", err=True)


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def status(as_json: bool) -> None:
    """Show workers, queues with their depth, the database, and ticks in flight."""
    from async_tick.connection import Connection
    from async_tick.worker import live_workers
    from tickover.ground.secrets import redact_url

    with ready_database() as endpoints:
        connection = Connection("tickover status")
        in_flight = connection.rows("SELECT count(*) FROM workflows WHERE status = 'running'")[0][0]
        steps = dict(connection.rows(
            "SELECT s.status, count(*) FROM step_runs s JOIN workflows w ON w.id = s.workflow_id "
            "WHERE w.status = 'running' GROUP BY 1"
        ))  # fmt: skip
        document = {
            "database": redact_url(endpoints.database_url), "broker": redact_url(endpoints.broker_url),
            "workers": live_workers(), "queues": _depths(endpoints.redis_url), "ticks_in_flight": in_flight,
            "steps": steps,
        }  # fmt: skip
    if as_json:
        click.echo(json.dumps(document))
        return
    for name, value in document.items():
        shown = ", ".join(f"{key} {count}" for key, count in value.items()) if isinstance(value, dict) else value
        click.echo(f"{name.replace('_', ' '):<16} {shown if shown != '' else 'none'}")


def _depths(redis_url: str | None) -> dict[str, int]:
    """Messages that wait in each queue; empty for a broker that is not Redis."""
    if redis_url is None:
        return {}
    import redis

    with contextlib.closing(redis.Redis.from_url(redis_url)) as client:
        return {name: int(client.llen(name)) for name in ("critical", "optional")}


@click.group("workflow")
def workflow() -> None:
    """The workload's graph, or one execution."""


@workflow.command("show")
@click.argument("execution", required=False)
@workload_option
def show(execution: str | None, workload: str | None) -> None:
    """Show the steps of the workload, or (with an execution's name) how that one stands."""
    if execution is None:
        found = load_workload(workload or get_settings().workload)
        click.echo(f"{found.name}, version {found.version}")
        for name in found.order:
            step = found.step(name)
            needs = f" after {', '.join(step.needs)}" if step.needs else ""
            kind = "critical" if step.critical else "optional"
            click.echo(
                f"  {name}: {step.timeout_s:g} s, {kind}, queue {step.queue}, {step.retry.attempts} attempts{needs}"
            )
        return
    from async_tick import orchestrator

    with surroundings(workload):
        ended = orchestrator.outcome(execution)
    click.echo(f"{execution}: {ended.status}" + (f", {ended.error}" if ended.error else ""))
    for name, seen in ended.steps.items():
        lasted = "" if seen.duration_ms is None else f", {seen.duration_ms:.0f} ms"
        click.echo(f"  {name}: {seen.status}, attempt {seen.attempts}, recoveries {seen.recoveries}{lasted}")


COMMANDS: list[click.Command] = [
    worker,
    once,
    checkpoints,
    status,
    workflow,
    *doctor_commands.COMMANDS,
    *route_commands.COMMANDS,
]
