"""The life of steps on the real functions: claims, completions, failures, deaths and late commits in any order."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest

from async_tick.claims import Claim
from tests.integration.step_machine import MAX_RECOVERIES, machine_on, run


@pytest.fixture
def connection(database: str) -> Iterator[Any]:
    """A connection to a fresh database, in autocommit."""
    with closing(psycopg2.connect(database)) as opened:
        opened.autocommit = True
        yield opened


def test_whatever_happens_each_step_is_done_once(connection: Any) -> None:
    """Claims, duplicate hints, completions, late commits, retries, fallbacks, deaths, takeovers and overruns in any
    order."""
    run(machine_on(connection), 150)


def test_tokens_are_not_guessed(connection: Any) -> None:
    """A completion with a token that was never given is refused."""
    machine = machine_on(connection)()
    machine.begin([set()], set())
    claim = machine.claims[11].claim(machine.name, "s0", 60.0)
    assert claim is not None
    forged = Claim(**{name: getattr(claim, name) for name in Claim.__slots__} | {"token": str(uuid.uuid4())})
    assert not machine.claims[11].complete(forged, "done", result="1").accepted


def test_what_is_cancelled_in_a_sweep_stays_cancelled(connection: Any) -> None:
    """A worker dies once too often with two steps: the one fails the execution, the other is not run again."""
    machine = machine_on(connection)()
    machine.begin([set(), set()], set())
    for death in range(MAX_RECOVERIES + 1):
        for step in ("s0", "s1") if death == MAX_RECOVERIES else ("s0",):
            claim = machine.claims[11].claim(machine.name, step, 60.0)
            assert claim is not None
            machine._took(claim, 11)
        machine.sweep({11}, False)
    assert machine.model.status == "failed"
    machine.the_database_agrees()
    machine.teardown()
