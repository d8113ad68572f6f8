"""The Celery application: `celery -A async_tick.celery_app worker` works as it stands.

Its broker and database are those of the settings; where they are unset, the embedded servers of the data directory
are joined.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys
from typing import Any

from celery import Celery
from celery.signals import worker_before_create_process, worker_init, worker_process_init
from kombu.entity import Queue

from async_tick import lost_broker
from async_tick.events import GatherEvents
from async_tick.tasks import register_steps
from tickover.errors import TickoverError
from tickover.ground import servers
from tickover.ground.secrets import redact_url
from tickover.ground.settings import Settings, get_settings, reset_settings
from tickover.loading import load_workload

QUEUES = ("critical", "optional")
# What scripted services draw their answers from, unless a run says otherwise.
SERVICES_SEED = 7


def _join_servers() -> Settings:
    """The settings, after joining embedded servers for what has no URL; they are left when this process ends."""
    settings = get_settings()
    if settings.database_url and settings.broker:
        return settings
    stack = contextlib.ExitStack()
    endpoints = stack.enter_context(servers.use(settings))
    joined_by = os.getpid()
    atexit.register(lambda: stack.close() if os.getpid() == joined_by else None)
    os.environ.update(endpoints.environment())
    reset_settings()
    return get_settings()


def make_app(settings: Settings) -> Celery:
    """The application for these settings, with one task per step of the workload."""
    workflow = load_workload(settings.workload)
    app = Celery("tickover", broker=settings.broker, set_as_current=True)
    queues = list(dict.fromkeys([*QUEUES, *(step.queue for step in workflow.steps)]))
    app.conf.update(
        # Hints are acknowledged when their step is over; one lost with its worker is sent again by the sweeper.
        task_acks_late=True,
        task_reject_on_worker_lost=False,
        worker_prefetch_multiplier=1,
        task_ignore_result=True,
        result_backend=None,
        accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
        event_serializer="json",
        task_compression=None,
        task_queues=[Queue(name) for name in queues],
        task_default_queue="critical",
        task_routes={f"{workflow.name}.{step.name}": {"queue": step.queue} for step in workflow.steps},
        task_publish_retry=False,
        task_send_sent_event=False,
        worker_send_task_events=True,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options={"socket_timeout": None, "socket_connect_timeout": 5, "health_check_interval": 25},
        worker_cancel_long_running_tasks_on_connection_loss=False,
        enable_utc=True,
        timezone="UTC",
    )
    lost_broker.install()
    app.steps["consumer"].add(GatherEvents)
    register_steps(app, workflow)
    return app


app = celery_app = make_app(_join_servers())


@worker_init.connect
def _check_before_work(sender: Any = None, **_: Any) -> None:
    """Refuse to work on a schema that is not this code's, or with limits for steps that there are not."""
    from async_tick.about import code_here
    from async_tick.steps import step_limits
    from async_tick.sweeper import Sweeper
    from tickover.ground.raw import schema_is_current

    settings = get_settings()
    try:
        if not schema_is_current():
            _explain_schema()
        step_limits(load_workload(settings.workload), settings)
        code_here(settings.workload)
    except TickoverError as error:
        # Celery logs what a handler raises and goes on; only an exit stops it.
        print(f"error: {redact_url(str(error))}", file=sys.stderr, flush=True)
        raise SystemExit(int(error.exit_code)) from error
    _start_services(settings)
    Sweeper(app, settings).start()


def _start_services(settings: Settings) -> None:
    """Where no model is named, the workload's own scripted services answer, as they do in every other command."""
    workflow = load_workload(settings.workload)
    if settings.model_url is not None or workflow.services is None:
        return
    stack = contextlib.ExitStack()
    os.environ.update(stack.enter_context(workflow.services(settings.time_scale, SERVICES_SEED)))
    started_by = os.getpid()
    atexit.register(lambda: stack.close() if os.getpid() == started_by else None)
    reset_settings()
    print("no TICKOVER_MODEL_URL: the workload's own scripted services answer", file=sys.stderr, flush=True)


def _explain_schema() -> None:
    # Loaded only where something is wrong: a worker does without an ORM, whose memory counts once per process.
    from tickover.ground import migrate
    from tickover.ground.database import dispose_engines, engine

    migrate.require_current(engine())
    dispose_engines()


@worker_before_create_process.connect
def _before_fork(**_: Any) -> None:
    """What was loaded so far stays shared between parent and children: the collector no longer writes to it."""
    gc.collect()
    gc.freeze()


@worker_process_init.connect
def _after_fork(**_: Any) -> None:
    """A prefork child ends as a whole at a hard limit, and shares no connection with its parent."""
    from async_tick.steps import PREFORK_CHILD
    from tickover.doors import forget_clients

    PREFORK_CHILD.set()
    forget_clients()
