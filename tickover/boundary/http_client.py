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
from tickover.boundary.http_body import MAX_BODY_BYTES, CopyingFile, raw_response, unchunked
from tickover.boundary.imports import after_import
from tickover.boundary.session import Book, current, guarded
from tickover.ports import HttpRequest, HttpResponse
from tickover.workflow import Workflow

# Where urllib3's connection keeps the request that it is being opened for.
_INTENDED = "_tickover_intended"

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
            return io.BytesIO(raw_response(response))
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
    after_import("urllib3.connectionpool", _watch_urllib3_pool)
    return ["http: http.client (urllib, urllib3, requests)"]


def _watch_urllib3(module: Any, workflow: Workflow) -> None:
    """urllib3 connects by methods of its own."""
    for name in ("HTTPConnection", "HTTPSConnection"):
        owner = getattr(module, name)
        if "connect" in vars(owner):
            owner.connect = _connecting(owner.connect, workflow)


def _watch_urllib3_pool(module: Any) -> None:
    """urllib3 makes a TLS connection before it sends anything: a failure there must still be a failure of a call."""
    pool = module.HTTPConnectionPool
    real = pool._make_request

    @functools.wraps(real)
    def make_request(self: Any, conn: Any, method: str, url: str, body: Any = None, *args: Any, **kwargs: Any) -> Any:
        setattr(conn, _INTENDED, (method, url, body))
        try:
            return real(self, conn, method, url, body, *args, **kwargs)
        finally:
            setattr(conn, _INTENDED, None)

    pool._make_request = make_request


def _connecting(real: Callable[[Any], None], workflow: Workflow) -> Callable[[Any], None]:
    @functools.wraps(real)
    def connect(self: Any) -> None:
        book = current()
        if book is None:
            real(self)
        elif book.records:
            begun_s = time.perf_counter()
            try:
                real(self)
            except BaseException as error:
                with guarded("http"):
                    _never_connected(workflow, self, book, error, begun_s)
                raise
        else:
            self.sock = TapeSocket(self, real, workflow)
            if hasattr(self, "is_verified"):
                self.is_verified = True

    connect.tickover = True  # type: ignore[attr-defined]
    return connect


def _never_connected(workflow: Workflow, connection: Any, book: Book, error: BaseException, begun_s: float) -> None:
    intended = getattr(connection, _INTENDED, None)
    if intended is None or getattr(connection, _PENDING, None) is not None:
        return
    method, target, body = intended
    content = body.encode() if isinstance(body, str) else body if isinstance(body, bytes) else b""
    request = HttpRequest(method=method, url=_url(connection, target), headers={}, body=content)
    Exchange(workflow, book, request, begun_s).failed(error)


def _url(connection: Any, target: str) -> str:
    if target.startswith(("http://", "https://")):
        return target
    default = connection.default_port
    scheme = "https" if default == http.client.HTTPS_PORT else "http"
    host = connection.host if ":" not in connection.host else f"[{connection.host}]"
    port = "" if connection.port in (default, None) else f":{connection.port}"
    return f"{scheme}://{host}{port}{target}"


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
    return HttpRequest(method=method, url=_url(connection, target), headers=headers, body=body)


def _follow(response: http.client.HTTPResponse, exchange: Exchange) -> None:
    """See the body pass, and the call end with it."""
    headers = dict(response.getheaders())
    status, chunked, length = response.status, bool(response.chunked), response.length

    def finish(raw: bytes, ended: bool) -> None:
        """The file is closed; `ended`: its end was reached. Legacy that leaves a body unread has the part it read."""
        with guarded("http"):
            if len(raw) > MAX_BODY_BYTES:
                exchange.book.recorder.unobserved[f"http: an answer over {MAX_BODY_BYTES} bytes"] = None
                return
            if length is not None and not chunked and len(raw) < length and ended:
                exchange.failed(http.client.IncompleteRead(raw, length - len(raw)))
                return
            try:
                body = unchunked(raw, whole=ended) if chunked else raw
            except ValueError:
                exchange.failed(http.client.IncompleteRead(raw))
                return
            exchange.answered(HttpResponse(status=status, headers=headers, body=body))

    def fail(error: BaseException) -> None:
        with guarded("http"):
            exchange.failed(error)

    if response.fp is None or length == 0:
        finish(b"", True)
        return
    response.fp = CopyingFile(response.fp, finish, fail)  # type: ignore[assignment]
