"""The new system: a workflow's ticks on Celery, their truth in PostgreSQL."""
