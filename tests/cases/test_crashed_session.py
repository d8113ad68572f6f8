"""When one session of PostgreSQL crashes, it ends all others and recovers, but the time of its start stays what it
was: living workers had no time to come back before their steps were taken from them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from async_tick import sql
from tests.integration.engine_support import until
from tickover.ground.postgres import PostgresServer


@pytest.fixture
def private_url() -> Iterator[str]:
    """A PostgreSQL of this test's own, which may crash, with a running step whose owner holds no lock."""
    root = Path(tempfile.mkdtemp(prefix="tickover-crash-"))
    root.chmod(0o711)
    server = PostgresServer(root / "postgres", root / "sockets")
    child = server.start()
    try:
        _ask(server.url(), "CREATE TABLE step_runs (status text, owner integer)")
        _ask(server.url(), "INSERT INTO step_runs VALUES ('running', 7)")
        yield server.url()
    finally:
        child.stop(20, first=server.stop_signal)
        shutil.rmtree(root, ignore_errors=True)


def _ask(url: str, statement: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as do:
        do.execute(statement)
        return list(do.fetchall()) if do.description else []


def _answer(url: str, statement: str) -> list[tuple[Any, ...]] | None:
    try:
        return _ask(url, statement)
    except (psycopg2.OperationalError, psycopg2.InterfaceError):
        return None


def test_workers_have_time_to_come_back_after_a_crash(private_url: str) -> None:
    """Right after the recovery nobody is reported as missing, as after a start; three seconds later he is."""
    until(lambda: _ask(private_url, sql.MISSING_OWNERS) == [(7,)])
    with contextlib.closing(psycopg2.connect(private_url)) as victim:
        os.kill(victim.get_backend_pid(), signal.SIGKILL)
        with pytest.raises(psycopg2.OperationalError):
            until(lambda: victim.cursor().execute("SELECT 1"))
    both = f"SELECT extract(epoch FROM clock_timestamp() - {sql.UP_SINCE})::float, ARRAY({sql.MISSING_OWNERS})"
    seen = [until(lambda: _answer(private_url, both))]
    until(lambda: seen.append(_answer(private_url, both)) or seen[-1][0][0] > 3.5)
    # Just at the three seconds an answer may be either, for the clock goes on within it.
    assert all(owners == ([7] if up_s > 3 else []) for ((up_s, owners),) in seen if abs(up_s - 3) > 0.3)
    uptime = f"SELECT {sql.UP_SINCE} > pg_postmaster_start_time()"
    assert _ask(private_url, uptime) == [(True,)]
