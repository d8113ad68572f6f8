"""HTTP through `http.client`, which urllib, urllib3 and requests stand on.

A recorded call keeps its real socket; the bytes that go out are copied, and those that come back on their way to
legacy. A replayed call is given a socket that is none: it takes the request and answers from the tape.
"""

from __future__ import annotations

import functools
import http.client
import io
import time
from collections.abc import Callable
from typing import Any

from tickover.boundary.exchange import Exchange
from tickover.boundary.imports import after_import
from tickover.boundary.session import Book, current, guarded
from tickover.ports import HttpRequest, HttpResponse
from tickover.workflow import Workflow

# Where a connection keeps the call that it is making.
_PENDING = "_tickover_pending"

_real_send = http.client.HTTPConnection.send
_real_connect = http.client.HTTPConnection.connect
_real_connect_tls = http.client.HTTPSConnection.connect


class _Pending:
    """A request on its way out: mutable, one at a time per connection."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.started_s = time.perf_counter()
        self.sent = bytearray()
        self.whole = True
        self.exchange: Exchange | None = None


class TapeSocket:
    """Takes a request in place of the network, and answers it from the tape, or over a real connection."""

    def __init__(self, connection: Any, real_connect: Callable[[Any], None], workflow: Workflow) -> None:
        self._connection, self._real_connect, self._workflow = connection, real_connect, workflow

    def sendall(self, data: Any) -> None:
        """The bytes are kept by the pending call."""

    def makefile(self, mode: str = "rb", *args: Any, **kwargs: Any) -> Any:
        """The response. Raises OSError where the tape has a failure of the connection."""
        pending: _Pending = getattr(self._connection, _PENDING)
        exchange = _exchange_of(self._workflow, self._connection, pending)
        response = exchange.replay() if exchange is not None else None
        if response is not None:
            setattr(self._connection, _PENDING, None)
            # As a server that closes: the next request asks for a connection again, and nobody polls this socket.
            self._connection.sock = None
            return io.BytesIO(_raw(response))
        self._connection.sock = None
        self._real_connect(self._connection)
        real = self._connection.sock
        real.sendall(bytes(pending.sent))
        return real.makefile(mode, *args, **kwargs)

    def settimeout(self, timeout_s: float | None) -> None:
        """A tape has no limits."""

    def setsockopt(self, *args: Any) -> None:
        """A tape has no options."""

    def gettimeout(self) -> None:
        """No limit."""

    def fileno(self) -> int:
        """As a closed socket: there is no descriptor."""
        return -1

    def shutdown(self, how: int) -> None:
        """Nothing is open."""

    def close(self) -> None:
        """Nothing is open."""


def install(workflow: Workflow) -> list[str]:
    """Watch `http.client`. Returns the names of what is watched now."""
    connection: Any = http.client.HTTPConnection

    @functools.wraps(_real_send)
    def send(self: Any, data: Any) -> None:
        book = current()
        if book is None:
            _real_send(self, data)
            return
        with guarded("http"):
            _sending(workflow, self, book, data)
        try:
            _real_send(self, data)
        except BaseException as error:
            with guarded("http"):
                _broke(workflow, self, error)
            raise

    real_getresponse = connection.getresponse

    @functools.wraps(real_getresponse)
    def getresponse(self: Any, *args: Any, **kwargs: Any) -> Any:
        pending = getattr(self, _PENDING, None)
        if not isinstance(pending, _Pending):
            return real_getresponse(self, *args, **kwargs)
        try:
            response = real_getresponse(self, *args, **kwargs)
        except BaseException as error:
            with guarded("http"):
                _broke(workflow, self, error)
            raise
        with guarded("http"):
            own = getattr(self, _PENDING, None) is pending
            if own:
                setattr(self, _PENDING, None)
                exchange = _exchange_of(workflow, self, pending)
                if exchange is not None:
                    _follow(response, exchange)
        return response

    connection.send, connection.getresponse = send, getresponse
    connection.connect = _connecting(_real_connect, workflow)
    connection_tls: Any = http.client.HTTPSConnection
    connection_tls.connect = _connecting(_real_connect_tls, workflow)
    after_import("urllib3.connection", lambda module: _watch_urllib3(module, workflow))
    return ["http: http.client (urllib, urllib3, requests)"]


def _watch_urllib3(module: Any, workflow: Workflow) -> None:
    """urllib3 connects by methods of its own."""
    for name in ("HTTPConnection", "HTTPSConnection"):
        owner = getattr(module, name)
        if "connect" in vars(owner):
            owner.connect = _connecting(owner.connect, workflow)


def _connecting(real: Callable[[Any], None], workflow: Workflow) -> Callable[[Any], None]:
    @functools.wraps(real)
    def connect(self: Any) -> None:
        book = current()
        if book is None or book.records:
            real(self)
        else:
            self.sock = TapeSocket(self, real, workflow)
            if hasattr(self, "is_verified"):
                self.is_verified = True

    connect.tickover = True  # type: ignore[attr-defined]
    return connect


def _sending(workflow: Workflow, connection: Any, book: Book, data: Any) -> None:
    pending: _Pending | None = getattr(connection, _PENDING, None)
    if pending is None:
        pending = _Pending(book)
        setattr(connection, _PENDING, pending)
        if not book.records and not isinstance(connection.sock, TapeSocket):
            _to_tape(workflow, connection)
    if isinstance(data, bytes | bytearray | memoryview):
        pending.sent += data
    else:
        pending.whole = False
        pending.book.recorder.unobserved["http: a body that is sent from a file or an iterator"] = None


def _to_tape(workflow: Workflow, connection: Any) -> None:
    """A connection that is kept alive goes back to the tape for its next request; its real socket is closed."""
    if connection.sock is not None:
        connection.sock.close()
        owner = type(connection)
        real = owner.connect.__wrapped__ if hasattr(owner.connect, "tickover") else owner.connect
        connection.sock = TapeSocket(connection, real, workflow)


def _exchange_of(workflow: Workflow, connection: Any, pending: _Pending) -> Exchange | None:
    if pending.exchange is None and pending.whole:
        with guarded("http"):
            request = _parsed(connection, bytes(pending.sent))
            pending.exchange = Exchange(workflow, pending.book, request, pending.started_s)
    return pending.exchange


def _broke(workflow: Workflow, connection: Any, error: BaseException) -> None:
    pending: _Pending | None = getattr(connection, _PENDING, None)
    setattr(connection, _PENDING, None)
    if pending is not None:
        exchange = _exchange_of(workflow, connection, pending)
        if exchange is not None:
            exchange.failed(error)


def _parsed(connection: Any, raw: bytes) -> HttpRequest:
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = (first + "  ").split(" ", 2)
    headers = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("Transfer-Encoding", "").lower() == "chunked":
        body = unchunked(body)
    if target.startswith(("http://", "https://")):
        url = target
    else:
        tls = isinstance(connection, http.client.HTTPSConnection)
        scheme, default = ("https", 443) if tls else ("http", 80)
        host = connection.host if ":" not in connection.host else f"[{connection.host}]"
        port = "" if connection.port in (default, None) else f":{connection.port}"
        url = f"{scheme}://{host}{port}{target}"
    return HttpRequest(method=method, url=url, headers=headers, body=body)


def unchunked(raw: bytes) -> bytes:
    """The body of a chunked message. Raises ValueError if it is cut off."""
    body, place = bytearray(), 0
    while True:
        end = raw.index(b"\r\n", place)
        size = int(raw[place:end].split(b";")[0], 16)
        if size == 0:
            return bytes(body)
        chunk = raw[end + 2 : end + 2 + size]
        if len(chunk) < size:
            raise ValueError("a chunk is cut off")
        body += chunk
        place = end + 2 + size + 2


def _raw(response: HttpResponse) -> bytes:
    reason = http.client.responses.get(response.status, "")
    lines = [f"HTTP/1.1 {response.status} {reason}"]
    left_out = ("content-length", "transfer-encoding", "content-encoding", "connection")
    lines += [f"{name}: {value}" for name, value in response.headers.items() if name.lower() not in left_out]
    lines += [f"Content-Length: {len(response.body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + response.body


class _Copying(io.RawIOBase):
    """The file of a response, on its way to legacy: what is read is kept, and the end of it is noticed."""

    def __init__(self, real: Any, finish: Callable[[bytes], None], fail: Callable[[BaseException], None]) -> None:
        self._real, self._finish, self._fail, self._kept = real, finish, fail, bytearray()

    def _keep(self, read: Callable[..., bytes], *args: Any) -> bytes:
        try:
            data = read(*args)
        except BaseException as error:
            self._fail(error)
            raise
        self._kept += data
        return data

    def read(self, *args: Any) -> bytes:
        """As the real file."""
        return self._keep(self._real.read, *args)

    def read1(self, *args: Any) -> bytes:
        """As the real file."""
        return self._keep(self._real.read1, *args)

    def readline(self, *args: Any) -> bytes:
        """As the real file."""
        return self._keep(self._real.readline, *args)

    def readinto(self, buffer: Any) -> int:
        """As the real file."""
        try:
            count: int = self._real.readinto(buffer)
        except BaseException as error:
            self._fail(error)
            raise
        self._kept += memoryview(buffer)[:count]
        return count

    def peek(self, *args: Any) -> bytes:
        """As the real file."""
        data: bytes = self._real.peek(*args)
        return data

    def fileno(self) -> int:
        """As the real file."""
        descriptor: int = self._real.fileno()
        return descriptor

    def readable(self) -> bool:
        """Always."""
        return True

    def flush(self) -> None:
        """As the real file."""
        if not self._real.closed:
            self._real.flush()

    def close(self) -> None:
        """As the real file; then the call is over."""
        if not self.closed:
            self._real.close()
            super().close()
            self._finish(bytes(self._kept))


def _follow(response: http.client.HTTPResponse, exchange: Exchange) -> None:
    """See the body pass, and the call end with it."""
    headers = dict(response.getheaders())
    status, chunked, length = response.status, bool(response.chunked), response.length

    def finish(raw: bytes) -> None:
        with guarded("http"):
            if length is not None and not chunked and len(raw) < length:
                exchange.failed(http.client.IncompleteRead(raw, length - len(raw)))
                return
            try:
                body = unchunked(raw) if chunked else raw
            except ValueError:
                exchange.failed(http.client.IncompleteRead(raw))
                return
            exchange.answered(HttpResponse(status=status, headers=headers, body=body))

    def fail(error: BaseException) -> None:
        with guarded("http"):
            exchange.failed(error)

    if response.fp is None or length == 0:
        finish(b"")
        return
    response.fp = _Copying(response.fp, finish, fail)  # type: ignore[assignment]
