"""A worker whose session was ended looked dead until its next heartbeat, seconds later, and lost its steps by it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest

from async_tick.liveness import Liveness
from tests.integration.engine_support import until

HOLDER = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid::bigint = %s"


@pytest.fixture
def connection(database: str) -> Iterator[Any]:
    """A connection in autocommit."""
    with closing(psycopg2.connect(database)) as opened:
        opened.autocommit = True
        yield opened


def test_a_session_that_is_ended_is_made_anew_before_any_heartbeat(database: str, connection: Any) -> None:
    """The next heartbeat is an hour away; the lock is back long before."""

    def holder() -> int | None:
        with connection.cursor() as do:
            do.execute(HOLDER, (liveness.owner,))
            found = do.fetchall()
        return found[0][0] if found else None

    liveness = Liveness(30.0, 3600.0)
    liveness.start()
    try:
        first = holder()
        assert first is not None
        with connection.cursor() as do:
            do.execute("SELECT pg_terminate_backend(%s)", (first,))
        until(lambda: holder() not in (None, first))
    finally:
        liveness.stop()
        until(lambda: holder() is None)
