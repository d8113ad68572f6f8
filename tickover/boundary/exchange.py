"""HTTP exchanges as port calls: what is recorded of one, and what legacy is given on replay. Knows no HTTP client."""

from __future__ import annotations

import base64
import gzip
import json
import time
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tickover.boundary.files import content_of
from tickover.boundary.observation import Mode
from tickover.boundary.session import Book
from tickover.canonical import Json, normalise, parse
from tickover.errors import PortError
from tickover.ports import HttpRequest, HttpResponse, Port, PortCall, error_of
from tickover.tape import TapeEntry, error_document
from tickover.workflow import Workflow, Write

# The port of calls that no port of the workflow claims.
FALLBACK = "http"

# Methods that change nothing, by RFC 9110; any other is taken for a write where no port says otherwise.
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

_OPS = {"PUT": "update", "PATCH": "update", "DELETE": "delete"}


class Exchange:
    """One HTTP call of legacy, from its first byte to its last; mutable until `answered` or `failed`."""

    def __init__(self, workflow: Workflow, book: Book, request: HttpRequest, started_s: float) -> None:
        self.book, self._request, self._started_s = book, request, started_s
        self._workflow, self._done, self._missed = workflow, False, False
        self.port, self.call = port_call(workflow, request)
        with book.tape_lock:
            self.entry, self._hash, self._occurrence = book.tape.find(self.call)

    def replay(self) -> HttpResponse | None:
        """The recorded response, after its latency; None if the call is to be made live.

        Raises OSError for a recorded failure of the connection, an outage of a drill, and where a live call is
        forbidden.
        """
        recorder, request = self.book.recorder, self.book.recorder.request
        if request.mode is Mode.RECORD:
            return None
        breaks = recorder.fault is not None and recorder.fault.calling(self.book.step)
        if self.entry is None:
            self._missed = bool(request.tape)
            if request.on_miss == "fail" or self._writes():
                self._done = True
                self.book.recorder.unobserved[f"refused: {self.call.port}.{self.call.method}"] = None
                raise ConnectionRefusedError(f"{self.call.port}.{self.call.method} must not be called live here")
            return None
        self._done = True
        if request.mode is Mode.COPY:
            time.sleep(self.entry.latency_ms / 1000)
        response = response_of(self.port, self.entry)
        return replace(response, body=response.body[: len(response.body) // 2]) if breaks else response

    def _writes(self) -> bool:
        if self.port is None:
            return self.call.method not in _SAFE
        return self.call.method in self.port.writes

    def answered(self, response: HttpResponse) -> None:
        """The whole response has come."""
        if self._done:
            return
        self._done = True
        answer: Json = None
        error: dict[str, Any] | None = None
        response = decoded(response)
        try:
            if self.port is None:
                answer = plain_response(response)
            elif self.port.answer_of is None:
                answer = parse(response.body)
            else:
                answer = normalise(self.port.answer_of(response), self._workflow.normalise)
        except PortError as failure:
            error = {**error_document(failure), "response": plain_response(response)}
        except ValueError as failure:
            error = {**error_document(PortError("decode", str(failure), response.status))}
            error["response"] = plain_response(response)
        self._record(answer, error)

    def failed(self, failure: BaseException) -> None:
        """The call ended without a whole response."""
        if not self._done and isinstance(failure, Exception):
            self._done = True
            self._record(None, error_document(error_of(failure)))

    def _record(self, answer: Json, error: dict[str, Any] | None) -> None:
        recorder = self.book.recorder
        recorder.call(
            TapeEntry(
                run=recorder.request.run,
                tick=recorder.request.tick,
                step=self.book.step,
                port=self.call.port,
                method=self.call.method,
                request=self.call.request,
                request_hash=self._hash,
                occurrence=self._occurrence,
                attempt=1,
                answer=answer,
                error=error,
                latency_ms=(time.perf_counter() - self._started_s) * 1000,
                recorded_by="legacy",
                execution_id=recorder.request.execution_id,
                missed=self._missed,
            )
        )
        if self.port is None and self.call.method not in _SAFE:
            op = _OPS.get(self.call.method, "insert")
            row = {"method": self.call.method, "body": self.call.request["body"]}
            recorder.write(self.book, Write(door="http", target=self._request.url, op=op, row=row))


def port_call(workflow: Workflow, request: HttpRequest) -> tuple[Port | None, PortCall]:
    """Whose call a request is: the first port that claims it, else the port "http" (None)."""
    for port in workflow.ports:
        if port.call_of is not None:
            call = port.call_of(request)
            if call is not None:
                return port, PortCall(port=call.port, method=call.method, request=normalise(call.request))
    body = _body(request.body)
    return None, PortCall(port=FALLBACK, method=request.method, request={"url": request.url, "body": body})


def _body(body: bytes) -> Json:
    """JSON as its value, so that white space does not make two requests of one."""
    if not body:
        return None
    if body[:1] in (b"{", b"["):
        try:
            return {"json": normalise(parse(body))}
        except ValueError:
            return content_of(body)
    return content_of(body)


def decoded(response: HttpResponse) -> HttpResponse:
    """The response without content coding (gzip, deflate)."""
    headers = {name: value for name, value in response.headers.items() if name.lower() != "content-encoding"}
    coding = next((v.lower() for n, v in response.headers.items() if n.lower() == "content-encoding"), "")
    if coding in ("gzip", "x-gzip"):
        return HttpResponse(status=response.status, headers=headers, body=gzip.decompress(response.body))
    if coding == "deflate":
        try:
            body = zlib.decompress(response.body)
        except zlib.error:
            body = zlib.decompress(response.body, -zlib.MAX_WBITS)
        return HttpResponse(status=response.status, headers=headers, body=body)
    return response


# Headers that speak of the connection, not of the answer.
_HOP = frozenset({"transfer-encoding", "content-length", "connection", "keep-alive", "date", "set-cookie"})


def plain_response(response: HttpResponse) -> dict[str, Any]:
    """A response as JSON: status, headers that belong to the answer, body."""
    headers = {name.lower(): value for name, value in response.headers.items() if name.lower() not in _HOP}
    return {"status": response.status, "headers": headers, "body": content_of(response.body)}


def response_of(port: Port | None, entry: TapeEntry) -> HttpResponse:
    """The response that stands for a tape entry. Raises OSError for a failure of the connection."""
    if entry.error is not None:
        error = entry.error
        if error.get("response") is not None:
            return _from_plain(error["response"])
        if error.get("status") is not None:
            body = json.dumps({"error": error["message"]}).encode()
            return HttpResponse(status=error["status"], headers={"content-type": "application/json"}, body=body)
        if error["kind"] == "timeout":
            raise TimeoutError(error["message"])
        raise ConnectionResetError(error["message"])
    if port is None:
        return _from_plain(entry.answer)
    if port.response_of is not None:
        return port.response_of(entry.answer)
    body = json.dumps(entry.answer).encode()
    return HttpResponse(status=200, headers={"content-type": "application/json"}, body=body)


def _from_plain(document: Mapping[str, Any]) -> HttpResponse:
    body = document["body"]
    content = body["text"].encode("utf-8") if "text" in body else base64.b64decode(body["base64"])
    return HttpResponse(status=document["status"], headers=document["headers"], body=content)
