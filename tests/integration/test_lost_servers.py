"""What the engine's connections do when a server of theirs crashes, and comes back."""

from __future__ import annotations

import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import kombu
import pytest

from async_tick import lost_broker
from async_tick.connection import LOST, Connection, Pool, again_after_loss
from async_tick.listener import Listener
from tests.integration.engine_support import until
from tickover.ground import migrate
from tickover.ground.database import dispose_engines, engine
from tickover.ground.postgres import PostgresServer
from tickover.ground.process import ChildProcess
from tickover.ground.redis_server import RedisServer
from tickover.ground.settings import reset_settings
from tickover.ground.tape_store import PostgresTapeStore


class Crashing:
    """A PostgreSQL of the test's own."""

    def __init__(self, root: Path) -> None:
        self.server = PostgresServer(root / "data", root / "s")
        self.child: ChildProcess = self.server.start()

    def crash(self) -> None:
        """Stop it as a crash would: no session ends in order."""
        self.child.stop(10, first=signal.SIGQUIT)

    def start(self) -> None:
        """Start it again."""
        self.child = self.server.start()


@pytest.fixture
def crashing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Crashing]:
    """A server that is also DATABASE_URL."""
    root = Path(tempfile.mkdtemp(prefix="tickover-crash-", dir="/tmp"))
    root.chmod(0o711)
    own = Crashing(root)
    monkeypatch.setenv("DATABASE_URL", own.server.url())
    reset_settings()
    yield own
    own.child.stop(20, first=signal.SIGINT)
    shutil.rmtree(root)


@pytest.mark.parametrize("made", [Connection, Pool])
def test_a_crash_is_told_as_a_loss_and_the_next_statement_connects(crashing: Crashing, made: Any) -> None:
    """psycopg2 has no error of its own for it, and would take the dead connection for a living one for ever."""
    connection = made("test")
    assert connection.rows("SELECT 1") == [(1,)]
    crashing.crash()
    crashing.start()
    with pytest.raises(LOST):
        connection.rows("SELECT 1")
    assert connection.rows("SELECT 1") == [(1,)]


def test_who_may_ask_twice_does(crashing: Crashing) -> None:
    """A claim, or the reading of an outcome, meets a crash without noticing, also while the server is away."""
    connection = Connection("test")
    connection.rows("SELECT 1")
    crashing.crash()
    crashing.start()
    assert again_after_loss(lambda: connection.rows("SELECT 2")) == [(2,)]
    crashing.crash()
    asked = []

    def ask() -> Any:
        asked.append(1)
        if len(asked) == 3:
            crashing.start()
        return connection.rows("SELECT 3")

    assert again_after_loss(ask, waits=True) == [(3,)]
    assert len(asked) >= 3


def test_a_statement_that_is_wrong_is_not_asked_twice(crashing: Crashing) -> None:
    """What the server itself refuses is no loss of the connection."""
    connection, asked = Connection("test"), []

    def ask() -> Any:
        asked.append(1)
        return connection.rows("SELECT nothing")

    with pytest.raises(Exception, match="nothing"):
        again_after_loss(ask, waits=True)
    assert asked == [1]
    assert connection.rows("SELECT 1") == [(1,)]


def test_the_tape_is_read_over_a_crash(crashing: Crashing) -> None:
    """A step that replays does not fail because the tape's connection was cut."""
    migrate.upgrade(engine(crashing.server.url()))
    dispose_engines()
    with closing(PostgresTapeStore(crashing.server.url())) as tape:
        assert tape.of_tick("r", 1) == []
        crashing.crash()
        crashing.start()
        assert tape.of_tick("r", 1) == []


def test_a_hint_whose_connection_was_lost_is_forgotten(tmp_path: Path) -> None:
    """A worker that finishes a step after it lost Redis would else fail on the acknowledgement, and end."""
    lost_broker.install()
    sockets = Path(tempfile.mkdtemp(prefix="tickover-crash-", dir="/tmp"))
    server = RedisServer(tmp_path, sockets / "s")
    child = server.start()
    try:
        connection = kombu.Connection(server.url().replace("unix://", "redis+socket://", 1))
        channel = connection.channel()
        queue = kombu.Queue("lost", channel=channel)
        queue.declare()
        kombu.Producer(channel).publish({"hint": 1}, routing_key="lost", serializer="json")
        message = queue.get(no_ack=False)
        assert message is not None
        child.kill()
        connection.close()
        assert channel.closed
        message.ack()
        assert message.acknowledged
    finally:
        child.stop()
        shutil.rmtree(sockets)


def test_a_hint_is_acknowledged_where_its_connection_lives(broker: str) -> None:
    """The message is gone for good then: another consumer finds nothing, now and after this one has left."""
    lost_broker.install()
    with kombu.Connection(broker) as connection:
        queue = kombu.Queue("kept", channel=connection.channel())
        queue.declare()
        kombu.Producer(connection.channel()).publish({"hint": 1}, routing_key="kept", serializer="json")
        message = queue.get(no_ack=False)
        assert message is not None
        message.ack()
    with kombu.Connection(broker) as connection:
        assert kombu.Queue("kept", channel=connection.channel()).get() is None


_ADD = """
INSERT INTO workflows (execution_id, run, tick, system, purpose, pass, workflow, version, input, input_hash, state,
    started_at, time_scale, status, created_at)
VALUES (%s, 'r', %s, 'async', 'control', 1, 'w', 'v', '{}', 'h', '{}', now(), 1, 'running', now())
"""
_ASKED = """
SELECT 1 FROM pg_stat_activity
WHERE application_name = 'tickover waiter' AND state = 'idle' AND query LIKE 'SELECT execution_id%%'
"""
_CUT = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


def test_an_end_that_came_while_all_sessions_were_cut_is_seen(database: str) -> None:
    """The waiters' own connection is lost with the listener's: the table is read again until it could be."""
    other, heard, found = Connection("test"), Listener(), list[bool]()
    for number, name in enumerate("ab"):
        other.rows(_ADD, (name, number))
    heard.start()
    # Whoever waits has asked once, so a connection is there to be lost.
    waiting = threading.Thread(target=lambda: found.append(heard.wait("a", 60)))
    waiting.start()
    try:
        until(lambda: other.rows(_ASKED))
        # Nobody is notified of this one: it stands for a notice that went to a session which is gone.
        other.rows("UPDATE workflows SET status = 'done' WHERE execution_id = 'a'")
        other.rows(_CUT)
        waiting.join(10)
        assert found == [True]
        other.rows("UPDATE workflows SET status = 'done' WHERE execution_id = 'b'")
        other.rows(_CUT)
        assert heard.wait("b", 10)
    finally:
        heard.stop()
        other.drop()
