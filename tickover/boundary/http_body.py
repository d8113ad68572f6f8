"""Bodies of HTTP/1.1 messages: copied on their way to legacy, put together, and written for a replay."""

from __future__ import annotations

import http.client
import io
from collections.abc import Callable
from typing import Any

from tickover.ports import HttpResponse

# Bodies over this many bytes are not recorded, but named as unobserved.
MAX_BODY_BYTES = 16 * 1024 * 1024


def unchunked(raw: bytes, *, whole: bool = True) -> bytes:
    """The body of a chunked message. Raises ValueError if it is cut off; unless `whole`, what there is will do."""
    body, place = bytearray(), 0
    while True:
        if not whole and b"\r\n" not in raw[place:]:
            return bytes(body)
        end = raw.index(b"\r\n", place)
        size = int(raw[place:end].split(b";")[0], 16)
        if size == 0:
            return bytes(body)
        chunk = raw[end + 2 : end + 2 + size]
        if len(chunk) < size and not whole:
            return bytes(body + chunk)
        if len(chunk) < size:
            raise ValueError("a chunk is cut off")
        body += chunk
        place = end + 2 + size + 2


def raw_response(response: HttpResponse) -> bytes:
    reason = http.client.responses.get(response.status, "")
    lines = [f"HTTP/1.1 {response.status} {reason}"]
    left_out = ("content-length", "transfer-encoding", "content-encoding", "connection")
    lines += [f"{name}: {value}" for name, value in response.headers.items() if name.lower() not in left_out]
    lines += [f"Content-Length: {len(response.body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + response.body


class CopyingFile(io.RawIOBase):
    """The file of a response, on its way to legacy: what is read is kept, and the end of it is noticed."""

    def __init__(
        self, real: Any, finish: Callable[[bytes, bool], None], fail: Callable[[BaseException], None]
    ) -> None:
        self._real, self._finish, self._fail, self._kept = real, finish, fail, bytearray()
        self._ended = False

    def _keep(self, read: Callable[..., bytes], at_least: int | None, *args: Any) -> bytes:
        try:
            data = read(*args)
        except BaseException as error:
            self._fail(error)
            raise
        self._took(data, at_least)
        return data

    def _took(self, data: Any, asked: int | None) -> None:
        """`asked`: bytes that only the end of the file can make fewer; None or below 0 asks for all."""
        if len(self._kept) <= MAX_BODY_BYTES:
            self._kept += data
        self._ended = self._ended or asked is None or asked < 0 or len(data) < asked

    def read(self, *args: Any) -> bytes:
        """As the real file."""
        return self._keep(self._real.read, args[0] if args else -1, *args)

    def read1(self, *args: Any) -> bytes:
        """As the real file."""
        return self._keep(self._real.read1, 1, *args)

    def readline(self, *args: Any) -> bytes:
        """As the real file."""
        return self._keep(self._real.readline, 1, *args)

    def readinto(self, buffer: Any) -> int:
        """As the real file."""
        try:
            count: int = self._real.readinto(buffer)
        except BaseException as error:
            self._fail(error)
            raise
        self._took(memoryview(buffer)[:count], len(buffer))
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
            self._finish(bytes(self._kept), self._ended)
