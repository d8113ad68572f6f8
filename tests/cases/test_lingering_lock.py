"""A worker whose old session still held its lock when it came back looked dead from then on, and lost every step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest

from async_tick import sql
from async_tick.liveness import Liveness
from tests.integration.engine_support import until
from tickover.errors import InfrastructureError


@pytest.fixture
def connection(database: str) -> Iterator[Any]:
    """A connection in autocommit."""
    with closing(psycopg2.connect(database)) as opened:
        opened.autocommit = True
        yield opened


def test_a_lock_that_an_old_session_still_holds_is_taken_when_it_ends(database: str, connection: Any) -> None:
    """PostgreSQL has not noticed yet that a worker's old connection is gone, and the lock with it: the worker's new
    session takes the lock as soon as the old one ends."""
    liveness = Liveness(30.0, 0.2)
    with closing(psycopg2.connect(database)) as old, old.cursor() as do:
        do.execute(sql.LOCK_OWNER, (liveness.owner,))
        assert do.fetchall() == [(True,)]
        old.commit()
        with pytest.raises(InfrastructureError, match="session lock"):
            liveness.start(timeout_s=0.5)
    held = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid::bigint = %s)"

    def is_held() -> bool:
        with connection.cursor() as do:
            do.execute(held, (liveness.owner,))
            return bool(do.fetchall()[0][0])

    try:
        until(is_held)
    finally:
        liveness.stop()
        until(lambda: not is_held())
