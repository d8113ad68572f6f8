"""HTTP through httpx, if legacy uses it: the transports are where every call passes."""

from __future__ import annotations

import functools
import time
from typing import Any

from tickover.boundary.exchange import Exchange
from tickover.boundary.imports import after_import
from tickover.boundary.session import Book, adapter_at_work, current, guarded, session
from tickover.ports import HttpRequest, HttpResponse
from tickover.workflow import Workflow


def install(workflow: Workflow) -> None:
    """Watch httpx once it is imported.

    A response is read whole before legacy gets it, so that what is recorded is what legacy saw.
    """
    after_import("httpx", lambda module: _watch(module, workflow))


def _watch(httpx: Any, workflow: Workflow) -> None:
    sync, asynchronous = httpx.HTTPTransport, httpx.AsyncHTTPTransport
    real, real_async = sync.handle_request, asynchronous.handle_async_request

    def begin(request: Any, body: bytes, book: Book, started_s: float) -> Exchange | None:
        with guarded("httpx"):
            seen = HttpRequest(method=request.method, url=str(request.url), headers=dict(request.headers), body=body)
            return Exchange(workflow, book, seen, started_s)
        return None

    def replayed(exchange: Exchange | None, request: Any) -> Any:
        try:
            response = exchange.replay() if exchange is not None else None
        except TimeoutError as error:
            raise httpx.ReadTimeout(str(error), request=request) from error
        except OSError as error:
            raise httpx.ConnectError(str(error), request=request) from error
        if response is None:
            return None
        return httpx.Response(response.status, headers=dict(response.headers), content=response.body)

    def finished(exchange: Exchange | None, response: Any, raw: bytes) -> None:
        if exchange is not None:
            with guarded("httpx"):
                exchange.answered(HttpResponse(status=response.status_code, headers=dict(response.headers), body=raw))

    def broke(exchange: Exchange | None, error: BaseException) -> None:
        if exchange is not None:
            with guarded("httpx"):
                exchange.failed(error)

    def rebuilt(response: Any, raw: bytes) -> Any:
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=httpx.ByteStream(raw),
            extensions=response.extensions,
        )

    @functools.wraps(real)
    def handle_request(self: Any, request: Any) -> Any:
        book, started_s = current(), time.perf_counter()
        if book is None:
            return real(self, request)
        exchange = begin(request, request.read(), book, started_s)
        found = replayed(exchange, request)
        if found is not None:
            return found
        try:
            with adapter_at_work():
                response = real(self, request)
                try:
                    raw = b"".join(response.stream)
                finally:
                    response.stream.close()
        except BaseException as error:
            broke(exchange, error)
            raise
        finished(exchange, response, raw)
        return rebuilt(response, raw)

    @functools.wraps(real_async)
    async def handle_async_request(self: Any, request: Any) -> Any:
        book, started_s = current(), time.perf_counter()
        if book is None:
            return await real_async(self, request)
        exchange = begin(request, await request.aread(), book, started_s)
        found = replayed(exchange, request)
        if found is not None:
            return found
        try:
            with adapter_at_work():
                response = await real_async(self, request)
                try:
                    raw = b"".join([part async for part in response.stream])
                finally:
                    await response.stream.aclose()
        except BaseException as error:
            broke(exchange, error)
            raise
        finished(exchange, response, raw)
        return rebuilt(response, raw)

    sync.handle_request, asynchronous.handle_async_request = handle_request, handle_async_request
    session.installed.append("http: httpx")
