"""A TCP proxy on loopback, in front of PostgreSQL or Redis: a network that can be cut, slowed, stalled and healed."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import struct
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from tickover.errors import ConfigurationError
from tickover.ground.raw import parse_dsn
from tickover.ground.secrets import redact_url

_CHUNK_BYTES = 65_536
# Connections that may wait to be taken.
_BACKLOG = 256
# Chunks of one direction of a connection that are under way at most; then its sender has to wait.
_UNDER_WAY = 64
# How long the proxy waits for the server to take a connection, in seconds.
_CONNECT_S = 5.0
# How long a change of the network may take on a loaded machine, in seconds.
_CLOSE_S = 30.0
# Closing with this sends a reset, not an orderly end: what a host that lost power, or a firewall, would do.
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """Where a server listens; immutable. path: a unix socket, and then host and port count for nothing."""

    host: str = "127.0.0.1"
    port: int = 0
    path: str | None = None


class Proxy:
    """A proxy in front of one server, running from construction until `close` in a thread of its own.

    url: the server's URL, through the proxy. cut, delay, stall and heal may be called from any thread, and are in
    force when they return, also for connections that there are already. A connection is passed on byte for byte, so
    TLS goes through.
    """

    def __init__(self, url: str) -> None:
        """Listen on a free port of loopback, in front of the server at `url` (PostgreSQL or Redis, over TCP or a unix
        socket). Raises ConfigurationError for any other URL."""
        self._server_address = address_of(url)
        # Never listens: it keeps the port this proxy's while the network is cut, so that nobody else can take it.
        self._placeholder = _bound(0)
        self.port = int(self._placeholder.getsockname()[1])
        self.url = through(url, self.port)
        self._delay_s = 0.0
        self._accepted = 0
        self._listening: socket.socket | None = None
        self._live: set[_Link] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tickover-proxy", daemon=True)
        self._thread.start()
        self._call(self._listen())

    @property
    def connections(self) -> int:
        """How many connections there are now."""
        return len(self._live)

    @property
    def accepted(self) -> int:
        """How many connections there have been."""
        return self._accepted

    def cut(self) -> None:
        """Reset all connections and refuse new ones until `heal`."""
        self._call(self._cut())

    def reset(self) -> None:
        """Reset all connections; new ones are welcome."""
        self._call(self._reset())

    def delay(self, seconds: float) -> None:
        """Have each byte arrive so many seconds late, in each direction, until `heal`."""
        self._call(self._slow(seconds))

    def stall(self) -> None:
        """Let nothing through until `heal`, and tell nobody: connections stay open, and new ones are taken."""
        self._call(self._slow(float("inf")))

    def heal(self) -> None:
        """Be a good network again. What was held back arrives now, in its order."""
        self._call(self._heal())

    def close(self) -> None:
        """Reset all connections, stop listening, and give the port up. A second call does nothing."""
        if not self._loop.is_running():
            return
        self._call(self._cut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSE_S)
        self._loop.close()
        self._placeholder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(_CLOSE_S)

    async def _listen(self) -> None:
        if self._listening is None:
            self._listening = _bound(self.port)
            self._listening.listen(_BACKLOG)
            self._loop.add_reader(self._listening, self._take_connections, self._listening)

    def _take_connections(self, listening: socket.socket) -> None:
        # Not asyncio.start_server: a connection that it has taken and not yet passed on would escape a cut.
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            while True:
                connection, _ = listening.accept()
                link = _Link(connection, self._delay_s)
                self._accepted += 1
                self._live.add(link)
                link.task = self._loop.create_task(link.pass_on(self._server_address))
                link.task.add_done_callback(functools.partial(self._forget, link))

    def _forget(self, link: _Link, _: object) -> None:
        self._live.discard(link)
        link.close_unbegun()

    async def _cut(self) -> None:
        if self._listening is not None:
            self._loop.remove_reader(self._listening)
            self._listening.close()
            self._listening = None
        await self._reset()

    async def _reset(self) -> None:
        tasks = [link.task for link in self._live if link.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # What was reset is closed in the loop's next turn.
        await asyncio.sleep(0)

    async def _slow(self, delay_s: float) -> None:
        self._delay_s = delay_s
        for link in self._live:
            link.slow(delay_s)

    async def _heal(self) -> None:
        await self._slow(0.0)
        await self._listen()


class _Link:
    """One connection and the one behind it. task: what passes its bytes on; cancelling it resets both."""

    def __init__(self, client: socket.socket, delay_s: float) -> None:
        self.task: asyncio.Task[None] | None = None
        self._client, self._delay_s = client, delay_s
        self._changed = asyncio.Event()
        self._begun = False

    def close_unbegun(self) -> None:
        """Reset the connection, if it was cancelled before it began to be passed on."""
        if not self._begun:
            _be_reset(self._client)
            self._client.close()

    def slow(self, delay_s: float) -> None:
        """From now on bytes arrive so late, those under way too."""
        self._delay_s = delay_s
        self._changed.set()
        self._changed = asyncio.Event()

    async def pass_on(self, server: Address) -> None:
        """Pass bytes on until both sides have ended; where one was lost, or this is cancelled, both are reset."""
        self._begun = True
        writers: list[asyncio.StreamWriter] = []
        is_whole = False
        try:
            # Not asyncio.wait_for, which in Python 3.11 can lose a cancellation, and with it a reset.
            async with asyncio.timeout(_CONNECT_S):
                reader, writer = await asyncio.open_connection(sock=self._client)
                writers.append(writer)
                far_reader, far_writer = await _connect(server)
                writers.append(far_writer)
            async with asyncio.TaskGroup() as group:
                for source, target in ((reader, far_writer), (far_reader, writer)):
                    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_UNDER_WAY)
                    group.create_task(self._take(source, under_way))
                    group.create_task(self._give(under_way, target))
            for each in writers:
                each.close()
                await each.wait_closed()
            is_whole = True
        except* OSError:
            # The server is away, or one side was lost: the other one learns of it by its reset.
            pass
        finally:
            for each in () if is_whole else writers:
                _reset(each)
            if not writers:
                _be_reset(self._client)
                self._client.close()

    async def _take(self, source: asyncio.StreamReader, under_way: asyncio.Queue[tuple[float, bytes]]) -> None:
        chunk = b"-"
        while chunk:
            # An empty chunk is the end of what this side sends, which arrives as late as all else.
            chunk = await source.read(_CHUNK_BYTES)
            await under_way.put((asyncio.get_running_loop().time(), chunk))

    async def _give(self, under_way: asyncio.Queue[tuple[float, bytes]], target: asyncio.StreamWriter) -> None:
        chunk = b"-"
        while chunk:
            taken_at, chunk = await under_way.get()
            while (wait_s := taken_at + self._delay_s - asyncio.get_running_loop().time()) > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if wait_s == float("inf") else wait_s):
                        await self._changed.wait()
            if chunk:
                target.write(chunk)
                await target.drain()
        if target.can_write_eof():
            target.write_eof()


async def _connect(server: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if server.path is not None:
        return await asyncio.open_unix_connection(server.path)
    return await asyncio.open_connection(server.host, server.port)


def _reset(writer: asyncio.StreamWriter) -> None:
    _be_reset(writer.get_extra_info("socket"))
    writer.transport.abort()


def _be_reset(connection: Any) -> None:
    """Have the socket send a reset when it is closed."""
    with contextlib.suppress(OSError):
        # A unix socket knows no reset, and refuses or ignores the wish for one.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def _bound(port: int) -> socket.socket:
    """A socket bound to a port of loopback, 0 for any free one, beside others of this process."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", port))
    made.setblocking(False)
    return made


def address_of(url: str) -> Address:
    """Where the server of a URL of PostgreSQL or Redis listens. Raises ConfigurationError for any other URL."""
    parts = urlsplit(url)
    if parts.scheme in ("redis", "rediss"):
        return Address(host=parts.hostname or "localhost", port=parts.port or 6379)
    if parts.scheme in ("unix", "redis+socket"):
        return Address(path=unquote(parts.path))
    if not parts.scheme.startswith("postgres"):
        raise ConfigurationError(f"no proxy for {redact_url(url)}: it can stand before PostgreSQL and Redis")
    found = parse_dsn(url)
    host, port = str(found.get("hostaddr") or found.get("host") or "localhost"), int(found.get("port", 5432))
    return Address(path=f"{host}/.s.PGSQL.{port}") if host.startswith("/") else Address(host=host, port=port)


def through(url: str, port: int) -> str:
    """The URL of the same server, database and user, by way of a port of loopback."""
    parts = urlsplit(url)
    if parts.scheme.startswith("postgres"):
        found = parse_dsn(url)
        own = {name: value for name, value in parse_qsl(parts.query) if name not in ("host", "hostaddr", "port")}
        user = _quoted(found.get("user"), found.get("password"))
        return f"{parts.scheme}://{user}127.0.0.1:{port}/{quote(found.get('dbname', ''))}" + (
            f"?{urlencode(own)}" if own else ""
        )
    user = _quoted(unquote(parts.username or ""), unquote(parts.password or ""))
    if parts.scheme in ("unix", "redis+socket"):
        options = dict(parse_qsl(parts.query))
        number = options.get("db") or options.get("virtual_host", "0").strip("/")
        return f"redis://{user}127.0.0.1:{port}/{number}"
    return urlunsplit(parts._replace(netloc=f"{user}127.0.0.1:{port}"))


def _quoted(user: str | None, password: str | None) -> str:
    secret = f":{quote(password, safe='')}" if password else ""
    return f"{quote(user or '', safe='')}{secret}@" if user or password else ""
