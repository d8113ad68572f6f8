"""Delivery: adopted effects go out, each at least once, with a key by which a receiver knows a repetition."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from tickover.canonical import parse
from tickover.draws import seed_of
from tickover.effects import Effect
from tickover.ground.raw import connect_raw
from tickover.workflow import Workflow

_PENDING = """
SELECT id, step, position, number, kind, key, payload FROM outbox
WHERE run = %s AND delivered_at IS NULL ORDER BY id LIMIT %s
"""

_LEFT = """
SELECT count(*), (SELECT error FROM outbox WHERE run = %s AND delivered_at IS NULL ORDER BY id LIMIT 1)
FROM outbox WHERE run = %s AND delivered_at IS NULL
"""


def deliver_pending(run: str, workflow: Workflow, home: Path, limit: int = 100) -> int:
    """Deliver effects of a run that wait, in order, and return how many went out.

    One that fails stops the rest, keeps its place, and says why in its row; the next call tries again. Two
    processes never deliver at the same time: the second returns at once. A receiver may be slow: it is called outside
    of any transaction.
    """
    delivered = 0
    with closing(connect_raw(application_name="tickover delivery")) as connection:
        connection.autocommit = True
        with connection.cursor() as do:
            do.execute("SELECT pg_try_advisory_lock(%s)", (seed_of("delivery", run) % 2**63,))
            if not do.fetchall()[0][0]:
                return 0
            do.execute(_PENDING, (run, limit))
            for number, step, position, place, kind, key, payload in do.fetchall():
                effect = Effect(
                    step=step, position=position, number=place, kind=kind, payload=parse(payload), key=key
                )
                try:
                    if workflow.deliver is not None and kind not in workflow.state_kinds:
                        workflow.deliver(effect, f"{run}/{key}", home)
                except Exception as error:  # noqa: BLE001 - a receiver may raise anything
                    do.execute(
                        "UPDATE outbox SET attempts = attempts + 1, error = %s WHERE id = %s",
                        (str(error)[:500], number),
                    )
                    return delivered
                do.execute(
                    "UPDATE outbox SET attempts = attempts + 1, error = NULL, delivered_at = clock_timestamp() "
                    "WHERE id = %s",
                    (number,),
                )
                delivered += 1
    return delivered


def deliver_all(run: str, workflow: Workflow, home: Path) -> tuple[int, str | None]:
    """Deliver all that waits, until one fails; how many still wait then, and what the first of them failed of."""
    while deliver_pending(run, workflow, home):
        pass
    with closing(connect_raw(application_name="tickover delivery")) as connection, connection.cursor() as do:
        do.execute(_LEFT, (run, run))
        count, error = do.fetchall()[0]
    return int(count), error


def waits(run: str, connection: object) -> bool:
    """Whether effects of a run wait for delivery. connection: psycopg2, not in autocommit."""
    with connection, connection.cursor() as do:  # type: ignore[attr-defined]
        do.execute("SELECT EXISTS (SELECT FROM outbox WHERE run = %s AND delivered_at IS NULL)", (run,))
        return bool(do.fetchall()[0][0])
