"""Monitoring events: gathered instead of sent one by one, and told for steps that go on in another's message."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from typing import Any

from celery import Celery, bootsteps

log = logging.getLogger(__name__)

# Events that wait at most; monitoring must not take a worker's memory when the broker is away.
WAITING = 1000
# How long events are gathered before they are sent together, in seconds.
GATHER_S = 0.1


class StepEvents:
    """Sends events from a thread of its own, so that no step waits for monitoring. One per process."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._events: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue(WAITING)
        self._hostname = ""
        self._thread: threading.Thread | None = None
        self._pid = 0

    def started(self, identity: str, name: str, arguments: tuple[Any, ...], hostname: str, retries: int) -> None:
        """Tell that a step began: `identity` is its own, `name` its task's, `hostname` its worker's."""
        self._hostname = hostname
        self._put(
            "task-received", uuid=identity, name=name, args=repr(arguments), kwargs="{}", retries=retries, eta=None,
            expires=None,
        )  # fmt: skip
        self._put("task-started", uuid=identity)

    def ended(self, identity: str, begun: float) -> None:
        """Tell that a step is over, which began at `begun` (of time.monotonic)."""
        self._put("task-succeeded", uuid=identity, result="None", runtime=time.monotonic() - begun)

    def _put(self, kind: str, **fields: Any) -> None:
        if not self._app.conf.worker_send_task_events:
            return
        try:
            self._events.put_nowait((kind, {**fields, "timestamp": time.time()}))
        except queue.Full:
            log.debug("event.dropped")
        if self._thread is None or self._pid != os.getpid():
            self._pid = os.getpid()
            self._thread = threading.Thread(target=self._run, name="tickover-events", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            first = self._events.get()
            try:
                with self._app.connection_for_write() as connection:
                    dispatcher = self._app.events.Dispatcher(
                        connection, hostname=self._hostname, buffer_group=["task"], buffer_limit=WAITING
                    )
                    while True:
                        dispatcher.send(first[0], **first[1])
                        self._gather(dispatcher)
                        dispatcher.flush()
                        first = self._events.get()
            except Exception as error:  # noqa: BLE001 - kombu's transports raise whatever their client raises
                log.debug("event.unsent", extra={"reason": str(error)})

    def _gather(self, dispatcher: Any) -> None:
        deadline = time.monotonic() + GATHER_S
        while (left := deadline - time.monotonic()) > 0:
            try:
                kind, fields = self._events.get(timeout=left)
            except queue.Empty:
                return
            dispatcher.send(kind, **fields)


class GatherEvents(bootsteps.StartStopStep):  # type: ignore[misc]
    """Has a worker's main process send its events together, ten times a second at most.

    Celery sends them in each turn of its loop, so that a message waits for the publishing of its predecessor's
    events: a quarter of what that process does when steps are short.
    """

    requires = ("celery.worker.consumer.events:Events",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        self._timer: Any = None
        super().__init__(consumer, **options)

    def start(self, consumer: Any) -> None:
        """Take over the dispatcher that was just made; a pool without an event loop keeps Celery's way."""
        dispatcher = consumer.event_dispatcher
        if consumer.hub is not None and dispatcher is not None:
            dispatcher.on_send_buffered = None
            self._timer = consumer.timer.call_repeatedly(GATHER_S, consumer.event_dispatcher.flush)

    def stop(self, consumer: Any) -> None:
        """Stop the timer; a new connection begins anew, and Celery hands over what was not sent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
