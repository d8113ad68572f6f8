"""A pooler that gives out connections by transaction, as PgBouncer does with pool_mode = transaction.

It speaks as much of PostgreSQL's protocol as psycopg2 does: a startup message, then simple queries. Each client
holds a connection to the server from its first query to the end of its transaction; the one that was given back last
is given out first.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

_SSL_REQUEST, _GSS_REQUEST, _CANCEL = 80877103, 80877104, 80877102
_STARTUP = b"\x00\x03\x00\x00user\x00postgres\x00database\x00%s\x00\x00"


def _exactly(peer: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        piece = peer.recv(size - len(found))
        if not piece:
            raise ConnectionError("the peer has left")
        found += piece
    return found


def _message(peer: socket.socket) -> tuple[bytes, bytes]:
    """One message: its kind, and the whole of it."""
    head = _exactly(peer, 5)
    (size,) = struct.unpack("!I", head[1:])
    return head[:1], head + _exactly(peer, size - 4)


class _Backend:
    """A connection to the server, logged in; `greeting` is what the server said then."""

    def __init__(self, socket_path: str, database: str) -> None:
        self.peer = socket.socket(socket.AF_UNIX)
        self.peer.connect(socket_path)
        startup = _STARTUP % database.encode()
        self.peer.sendall(struct.pack("!I", len(startup) + 4) + startup)
        self.greeting, _ = self.answer()

    def answer(self) -> tuple[bytes, bytes]:
        """All messages up to ReadyForQuery, and the transaction's status that it names."""
        told = b""
        while True:
            kind, message = _message(self.peer)
            told += message
            if kind == b"Z":
                return told, message[-1:]


class _Pooler:
    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = str(Path(parse_qs(parts.query)["host"][0]) / ".s.PGSQL.5432")
        self._database = parts.path.lstrip("/")
        self._free: list[_Backend] = []
        self._all: list[socket.socket] = []
        self._lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = (
            f"postgresql://postgres@127.0.0.1:{self.listener.getsockname()[1]}/{self._database}?sslmode=disable"
        )

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                self._all.append(client)
                threading.Thread(target=self._client, args=(client,), daemon=True).start()

    def close(self) -> None:
        for each in (self.listener, *self._all):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _take(self) -> _Backend:
        with self._lock:
            if self._free:
                return self._free.pop()
            made = _Backend(self._socket, self._database)
            self._all.append(made.peer)
            return made

    def _client(self, client: socket.socket) -> None:
        held: _Backend | None = None
        with contextlib.suppress(OSError):
            while True:
                size, code = struct.unpack("!II", _exactly(client, 8))
                _exactly(client, size - 8)
                if code == _CANCEL:
                    return
                if code not in (_SSL_REQUEST, _GSS_REQUEST):
                    break
                client.sendall(b"N")
            held = self._take()
            client.sendall(held.greeting)
            status = b"I"
            while True:
                if status == b"I":
                    with self._lock:
                        self._free.append(held)
                kind, message = _message(client)
                if kind == b"X":
                    return
                if status == b"I":
                    held = self._take()
                held.peer.sendall(message)
                told, status = held.answer()
                client.sendall(told)


@contextlib.contextmanager
def transaction_pooler(url: str) -> Iterator[str]:
    """A pooler on loopback in front of the embedded database at `url`, and its own URL."""
    pooler = _Pooler(url)
    thread = threading.Thread(target=pooler.serve, daemon=True)
    thread.start()
    try:
        yield pooler.url
    finally:
        pooler.close()
        thread.join(5)
