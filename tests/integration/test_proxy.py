"""The proxy in front of the real servers."""

from __future__ import annotations

from contextlib import closing

import psycopg2
import pytest
import redis

from shadow.proxy import Proxy
from tickover.ground.raw import connect_raw


def test_postgresql_behind_it(database: str) -> None:
    """A session through the proxy is one with the same database; a cut loses it, and healing allows a new one."""
    with Proxy(database) as proxy:
        with closing(connect_raw(proxy.url)) as connection, connection.cursor() as do:
            do.execute("SELECT current_database()")
            assert f"/{do.fetchall()[0][0]}?" in database
            proxy.cut()
            with pytest.raises(psycopg2.OperationalError):
                do.execute("SELECT 1")
        proxy.heal()
        with closing(connect_raw(proxy.url)) as connection, connection.cursor() as do:
            do.execute("SELECT count(*) FROM route")
            assert do.fetchall() == [(1,)]


def test_redis_behind_it(broker: str) -> None:
    """A client through the proxy reads what was written beside it; a cut loses it, and healing allows a new one."""
    with Proxy(broker) as proxy, closing(redis.Redis.from_url(proxy.url)) as client:
        with closing(redis.Redis.from_url(broker.replace("redis+socket://", "unix://"))) as beside:
            beside.set("key", "value")
        assert client.get("key") == b"value"
        proxy.cut()
        with pytest.raises(redis.ConnectionError):
            client.get("key")
        proxy.heal()
        assert client.get("key") == b"value"
