"""A sweep that failed a step for too many recoveries held the step and waited for its execution, while a completion
held the execution and waited for the step: a deadlock, which PostgreSQL ended by refusing one of the two."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest

from async_tick import sql
from async_tick.claims import Claim, Claims
from async_tick.connection import Connection

MOST = 5


@pytest.fixture
def connection(database: str) -> Iterator[Any]:
    """A connection in autocommit, whose statements may not wait for long."""
    with closing(psycopg2.connect(database, options="-c statement_timeout=5000")) as opened:
        opened.autocommit = True
        yield opened


def ask(connection: Any, statement: str, *values: Any) -> list[Any]:
    with connection.cursor() as do:
        do.execute(statement, values)
        return list(do.fetchall()) if do.description else []


def standing(connection: Any) -> tuple[Any, ...]:
    found: tuple[Any, ...] = ask(
        connection, "SELECT s.status, s.error, w.status FROM step_runs s JOIN workflows w ON w.id = s.workflow_id "
        "WHERE s.step = 'monologue'"
    )[0]  # fmt: skip
    return found


def claimed(connection: Any, tick: int) -> Claim:
    """A step of a new execution, claimed by the worker number 1."""
    name = f"run/{tick}/async/control/1"
    steps = [
        {"step": step, "position": at, "queue": "critical", "critical": True, "needs": needs}
        for at, (step, needs) in enumerate([("monologue", []), ("action", ["monologue"])])
    ]
    values = (name, "run", tick, "async", "control", 1, "w", "1", "null", "hash", "{}", None, "2026-01-01T00:00:00Z")
    ask(connection, sql.START, *values, 1.0, json.dumps(steps))
    claim = Claims(Connection("test"), 1, 30).claim(name, "monologue", 60)
    assert claim is not None
    return claim


@pytest.fixture
def lost(connection: Any) -> int:
    """A running step whose worker died once too often; the number of its execution."""
    claim = claimed(connection, 0)
    ask(connection, "UPDATE step_runs SET recoveries = %s WHERE step = 'monologue'", MOST)
    return claim.ground.workflow_id


def test_a_sweep_does_not_wait_for_a_completion(lost: int, connection: Any, database: str) -> None:
    """While a completion holds the execution, the sweep leaves it alone and returns; the completion can change the
    step; the next sweep does what this one has skipped."""
    with closing(psycopg2.connect(database, options="-c statement_timeout=5000")) as completion:
        held = "SELECT FROM workflows WHERE id = %s FOR NO KEY UPDATE"
        ask(completion, held, lost)
        assert ask(connection, sql.SWEEP, [1], 100, MOST) == []
        ask(completion, "UPDATE step_runs SET hints = hints WHERE workflow_id = %s AND step = 'monologue'", lost)
        completion.commit()
    assert standing(connection) == ("running", None, "running")
    ask(connection, sql.SWEEP, [1], 100, MOST)
    assert standing(connection) == ("failed", "its worker died 6 times", "failed")


def test_a_sweep_holds_no_step_while_it_fails_another(lost: int, connection: Any, database: str) -> None:
    """A completion that holds the step of another execution, which was lost too, delays nothing: that step is left
    to the next sweep, and the one that died too often fails in this one."""
    other = claimed(connection, 1)
    with closing(psycopg2.connect(database)) as completion:
        ask(completion, "UPDATE step_runs SET hints = hints WHERE workflow_id = %s", other.ground.workflow_id)
        ask(connection, sql.SWEEP, [1], 100, MOST)
        completion.rollback()
    statuses = "SELECT workflow_id, status FROM step_runs WHERE step = 'monologue' ORDER BY workflow_id"
    assert ask(connection, statuses) == [(lost, "failed"), (other.ground.workflow_id, "running")]
    ask(connection, sql.SWEEP, [1], 100, MOST)
    assert ask(connection, statuses)[1][1] == "ready"


def test_a_heartbeat_waits_for_nobody(lost: int, connection: Any, database: str) -> None:
    """A step that somebody changes at this moment is left to the next heartbeat."""
    token = ask(connection, "SELECT token FROM step_runs WHERE step = 'monologue'")[0][0]
    with closing(psycopg2.connect(database)) as completion:
        ask(completion, "UPDATE step_runs SET hints = hints WHERE workflow_id = %s", lost)
        assert ask(connection, sql.RENEW, [token], 30.0) == [(0,)]
        assert ask(connection, sql.HINT_AGAIN) == []
        completion.rollback()
    assert ask(connection, sql.RENEW, [token], 30.0) == [(1,)]
