"""The peer: the same seven steps as a plain Celery chain and chord, durable only as far as Redis is."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, chain, chord

app = Celery("peer", broker=os.environ.get("PEER_BROKER"), backend=os.environ.get("PEER_BACKEND"))
app.conf.update(
    task_acks_late=True, worker_prefetch_multiplier=1, worker_send_task_events=True, task_soft_time_limit=90,
    task_time_limit=100, task_default_queue="peer", worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)  # fmt: skip


@app.task(name="peer.step")
def step(_: Any, name: str) -> dict[str, Any]:
    """A step that does nothing and returns 1 KB."""
    return {"step": name, "text": "x" * 900}


@app.task(name="peer.done")
def done(results: list[Any]) -> int:
    """What the chord ends with."""
    return len(results)


def tick() -> Any:
    """Send one tick; the result's `get` waits for it."""
    first = chain(step.s(None, "monologue"), step.s("goal_selection"), step.s("action"))
    last = chord([step.s(name) for name in ("curiosity", "beliefs", "social", "meta")], done.s())
    return (first | last).apply_async()
