"""Ports: the outside dependencies that a tick calls, and how a legacy HTTP call is one of their calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tickover.canonical import Json, digest
from tickover.errors import PortError


@dataclass(frozen=True, kw_only=True, slots=True)
class PortCall:
    """One call of a port: its name, the method, and the arguments as a JSON object; immutable."""

    port: str
    method: str
    request: Json

    def hash(self) -> str:
        """The name of the request on a tape: equal calls, by canonical bytes, have equal hashes."""
        return digest([self.port, self.method, self.request])


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpRequest:
    """An HTTP request that the legacy system made; `url` is absolute, `body` raw bytes."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpResponse:
    """An HTTP response, as the legacy system saw it or is to see it."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def error_of(error: Exception) -> PortError:
    """The PortError that stands for an exception of a live client."""
    if isinstance(error, PortError):
        return error
    status = getattr(error, "status_code", None)
    if isinstance(status, int) and status > 0:
        return PortError("http", str(error), status)
    if isinstance(error, TimeoutError) or "timeout" in type(error).__name__.lower():
        return PortError("timeout", str(error))
    if isinstance(error, OSError) or "connect" in type(error).__name__.lower():
        return PortError("connection", str(error))
    return PortError(type(error).__name__, str(error))


@dataclass(frozen=True, kw_only=True)
class Port:
    """An outside dependency; immutable.

    name: what `context.port(name)` asks for. connect: makes the live client, once per process; its methods are
    called with keyword arguments and return something that has a JSON form (or that `answer` makes one of).
    methods: the names that may be called. writes: those of them that change the world; they are never called live
    for a candidate. answer: what a client returns -> JSON. error: an exception of the client -> PortError.

    For a legacy that reaches the same service over HTTP: call_of (request -> PortCall, or None if it is not this
    port's), answer_of (response -> the JSON answer that the client would give; raises PortError for a response that
    is an error), and response_of (answer -> the response that legacy is to see on replay). Without them legacy's
    HTTP calls are recorded and replayed under the port "http", and no candidate can replay them.
    """

    name: str
    connect: Callable[[], Any]
    methods: tuple[str, ...]
    writes: tuple[str, ...] = ()
    answer: Callable[[Any], Json] | None = None
    error: Callable[[Exception], PortError] = error_of
    call_of: Callable[[HttpRequest], PortCall | None] | None = None
    answer_of: Callable[[HttpResponse], Json] | None = None
    response_of: Callable[[Json], HttpResponse] | None = None
    about: Mapping[str, str] = field(default_factory=dict)

    def call(self, client: Any, method: str, request: Mapping[str, Any]) -> Json:
        """The answer of a live call. Raises PortError, whatever the client raised."""
        try:
            answer = getattr(client, method)(**request)
            return self.answer(answer) if self.answer else answer
        except Exception as error:
            raise self.error(error) from error
