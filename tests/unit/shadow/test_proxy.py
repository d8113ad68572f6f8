"""The proxy: what goes through it, and what each change of the network does to connections there are and new ones."""

from __future__ import annotations

import gc
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from shadow.proxy import Address, Proxy, address_of, through
from tickover.errors import ConfigurationError


class Echo:
    """A server that sends back what it gets, and ends when its client does."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with closing(connection):
            try:
                while chunk := connection.recv(65_536):
                    connection.sendall(chunk)
            except OSError:
                return


@pytest.fixture
def server() -> Iterator[str]:
    """The URL of a server on TCP."""
    listening = socket.create_server(("127.0.0.1", 0))
    Echo(listening)
    yield f"redis://127.0.0.1:{listening.getsockname()[1]}/0"
    listening.close()


@pytest.fixture
def proxy(server: str) -> Iterator[Proxy]:
    """A proxy in front of it."""
    with Proxy(server) as made:
        yield made


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=20)


def receive(connection: socket.socket, length: int) -> bytes:
    got = b""
    while len(got) < length and (chunk := connection.recv(65_536)):
        got += chunk
    return got


def ask(connection: socket.socket, what: bytes) -> bytes:
    connection.sendall(what)
    return receive(connection, len(what))


def test_bytes_go_through_both_ways(proxy: Proxy) -> None:
    """More than fits under way at once comes back as it was sent, and an end of one side reaches the other."""
    sent = bytes(range(256)) * 40_000
    with closing(connect(proxy)) as connection:
        threading.Thread(target=connection.sendall, args=(sent,), daemon=True).start()
        assert receive(connection, len(sent)) == sent
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert proxy.accepted == 1


def test_a_unix_socket_behind_it(tmp_path: Path) -> None:
    """The server may listen on a unix socket, as the embedded ones do."""
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(str(tmp_path / "redis.sock"))
        listening.listen()
        Echo(listening)
        with Proxy(f"unix://{tmp_path}/redis.sock") as proxy, closing(connect(proxy)) as connection:
            assert ask(connection, b"hello") == b"hello"


def test_a_cut_resets_and_refuses(proxy: Proxy) -> None:
    """Connections are reset, not ended in order; new ones are refused; after healing there are connections again."""
    with closing(connect(proxy)) as connection:
        assert ask(connection, b"one") == b"one"
        proxy.cut()
        assert proxy.connections == 0
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.heal()
    with closing(connect(proxy)) as connection:
        assert ask(connection, b"two") == b"two"


def test_a_reset_welcomes_new_connections(proxy: Proxy) -> None:
    """Only the connections there are are lost."""
    with closing(connect(proxy)) as connection:
        assert ask(connection, b"one") == b"one"
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with closing(connect(proxy)) as connection:
        assert ask(connection, b"two") == b"two"


def test_a_delay_holds_back_each_way(proxy: Proxy) -> None:
    """An answer comes no sooner than twice the delay, also on a connection that there was; healed, at once and in
    order."""
    with closing(connect(proxy)) as connection:
        assert ask(connection, b"one") == b"one"
        proxy.delay(0.05)
        begun = time.monotonic()
        assert ask(connection, b"two") == b"two"
        assert time.monotonic() - begun >= 0.1
        proxy.delay(3600)
        connection.sendall(b"three")
        connection.sendall(b"four")
        proxy.heal()
        assert receive(connection, 9) == b"threefour"


def test_a_stall_is_told_to_nobody(proxy: Proxy) -> None:
    """Connections stay open and new ones are taken, but nothing arrives before the network heals."""
    with closing(connect(proxy)) as connection:
        assert ask(connection, b"one") == b"one"
        proxy.stall()
        connection.sendall(b"two")
        with closing(connect(proxy)) as other:
            other.sendall(b"three")
            for waiting in (connection, other):
                waiting.settimeout(0.05)
                with pytest.raises(TimeoutError):
                    waiting.recv(1)
                waiting.settimeout(20)
            proxy.heal()
            assert (connection.recv(16), other.recv(16)) == (b"two", b"three")


def test_a_stalled_network_can_be_cut(proxy: Proxy) -> None:
    """What was held back is lost with its connection."""
    with closing(connect(proxy)) as connection:
        assert ask(connection, b"one") == b"one"
        proxy.stall()
        connection.sendall(b"two")
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_a_server_that_is_away(proxy: Proxy, server: str) -> None:
    """Whoever connects while nobody listens behind the proxy is reset."""
    with closing(socket.create_server(("127.0.0.1", 0))) as nobody:
        port = nobody.getsockname()[1]
    with Proxy(f"redis://127.0.0.1:{port}/0") as made:
        # The reset may arrive before `connect` returns.
        with pytest.raises(ConnectionResetError), closing(connect(made)) as connection:
            connection.recv(1)


def test_the_port_stays_its_own_while_cut(proxy: Proxy) -> None:
    """Nobody else can bind the port while the network is cut."""
    proxy.cut()
    with closing(socket.socket()) as other, pytest.raises(OSError):
        other.bind(("127.0.0.1", proxy.port))
    proxy.heal()
    connect(proxy).close()


def test_closing_gives_up_the_port_and_the_thread(server: str) -> None:
    """After `close`, also called twice, nothing listens and no thread is left."""
    made = Proxy(server)
    made.close()
    made.close()
    assert "tickover-proxy" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(ConnectionRefusedError):
        connect(made)


def test_no_connection_escapes_a_cut(server: str) -> None:
    """One that was taken an instant before is reset too, and no socket is left to the collector, which warns."""
    for _ in range(20):
        with Proxy(server) as made, closing(connect(made)) as connection:
            made.cut()
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
    gc.collect()


@pytest.mark.parametrize(
    ("url", "address", "proxied"),
    [
        ("redis://:s%40@h:7/3", Address(host="h", port=7), "redis://:s%40@127.0.0.1:9/3"),
        ("redis://h", Address(host="h", port=6379), "redis://127.0.0.1:9"),
        ("unix:///run/r.sock?db=2", Address(path="/run/r.sock"), "redis://127.0.0.1:9/2"),
        ("redis+socket:///run/r.sock", Address(path="/run/r.sock"), "redis://127.0.0.1:9/0"),
        (
            "postgresql://postgres@/tickover?host=/run/pg&port=5433&sslmode=disable",
            Address(path="/run/pg/.s.PGSQL.5433"),
            "postgresql://postgres@127.0.0.1:9/tickover?sslmode=disable",
        ),
        (
            "postgresql+psycopg2://a:b%2F@h/d", Address(host="h", port=5432),
            "postgresql+psycopg2://a:b%2F@127.0.0.1:9/d",
        ),
    ],
)  # fmt: skip
def test_urls(url: str, address: Address, proxied: str) -> None:
    """Of a URL only the way to the server changes: user, password, database and options stay."""
    assert address_of(url) == address
    assert through(url, 9) == proxied


def test_other_urls_are_refused() -> None:
    """The error names the URL without its password."""
    with pytest.raises(ConfigurationError, match="can stand before PostgreSQL and Redis") as caught:
        address_of("amqp://u:secret@h/")
    assert "secret" not in str(caught.value)
