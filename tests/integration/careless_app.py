"""Tickover's application as someone might have tuned it: what the doctor warns of."""

from async_tick.celery_app import app

app.conf.update(
    accept_content=["json", "pickle"], task_publish_retry=True, task_annotations={"*": {"max_retries": 5}},
    task_acks_late=False,
)  # fmt: skip
