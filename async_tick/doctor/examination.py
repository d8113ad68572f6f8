"""The examination: everything the doctor looks at, in the order in which people read it."""

from __future__ import annotations

from typing import Any

import psycopg2

from async_tick.connection import LOST, Connection
from async_tick.doctor.broker import broker_findings
from async_tick.doctor.database import database_findings
from async_tick.doctor.finding import Finding, Level, problem, warning
from async_tick.doctor.here import disk_finding, setting_findings, workload_findings
from async_tick.doctor.workers import ask_workers, worker_findings
from async_tick.worker import live_workers
from tickover.errors import TickoverError
from tickover.ground import servers
from tickover.ground.settings import Settings, get_settings
from tickover.loading import load_workload
from tickover.workflow import Workflow


def examine(*, database_url: str | None = None, broker_url: str | None = None) -> tuple[Finding, ...]:
    """What would hurt, and what would not, as things stand now.

    database_url, broker_url: where the servers are; None for those of the settings, else the embedded ones that run.
    It starts nothing and changes nothing, takes a few seconds (at most some ten where servers do not answer), and
    raises only ConfigurationError, for settings that cannot be read: a server that is down is a finding.
    """
    settings = get_settings()
    embedded = servers.running(settings)
    own_database = servers.running_database_url(settings)
    database_url = database_url or settings.database_url or own_database
    broker_url = broker_url or settings.broker or (embedded.broker_url if embedded else None)
    if database_url:
        findings = database_findings(settings, database_url, embedded=database_url == own_database)
    else:
        findings = [_not_running("database", settings)]
    findings += broker_findings(broker_url) if broker_url else [_not_running("broker", settings)]
    findings += [*setting_findings(settings), disk_finding(settings.data_dir)]
    try:
        workflow = load_workload(settings.workload)
    except TickoverError as error:
        said, _, remedy = str(error).partition("; ")
        findings.append(problem("workload", said, remedy or "set TICKOVER_WORKLOAD=module:name"))
        return tuple(findings)
    answers = {finding.name for finding in findings if finding.level is Level.OK}
    # The application is that which workers run; imported without URLs, it would start servers of its own.
    app = _application() if settings.database_url and settings.broker else None
    transport = app.conf.broker_transport_options if app is not None else {}
    findings += workload_findings(settings, workflow, transport)
    if app is not None and "broker" in answers:
        findings += _workers(app, workflow, database_answers="database" in answers)
    return tuple(findings)


def _not_running(name: str, settings: Settings) -> Finding:
    variable = "DATABASE_URL" if name == "database" else "CELERY_BROKER_URL"
    return problem(
        name, f"{variable} is not set, and no embedded server runs in {settings.data_dir}",
        f"run `tickover servers start`, or set {variable}",
    )  # fmt: skip


def _application() -> Any:
    from async_tick.celery_app import app

    return app


def _workers(app: Any, workflow: Workflow, *, database_answers: bool) -> list[Finding]:
    connected, needed = _what_the_database_says() if database_answers else (None, False)
    try:
        found = ask_workers(app)
    except Exception as error:  # noqa: BLE001 - kombu's transports raise whatever their client raises
        return [warning("workers", f"could not be asked: {error}".strip(), "look at the broker, and ask again")]
    return worker_findings(found, workflow, connected=connected, needed=needed)


def _what_the_database_says() -> tuple[int | None, bool]:
    """How many workers are connected to it, and whether the new system is in charge."""
    connection = Connection("tickover doctor")
    try:
        rows = connection.rows("SELECT owner FROM route WHERE id = 1")
        return live_workers(), bool(rows) and rows[0][0] == "async"
    except psycopg2.errors.UndefinedTable:
        # A schema from before there was a route, which `migrations` says.
        return live_workers(), False
    except (*LOST, TickoverError):
        return None, False
    finally:
        connection.drop()
