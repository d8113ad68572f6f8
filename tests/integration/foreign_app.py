"""Someone else's Celery application, which happens to use the same broker and a queue of the same name."""

import os

from celery import Celery
from kombu import Queue

app = Celery("foreign", broker=os.environ["CELERY_BROKER_URL"])
app.conf.task_queues = [Queue("critical")]
app.conf.broker_connection_retry_on_startup = True
