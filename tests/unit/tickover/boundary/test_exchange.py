"""HTTP exchanges as port calls, without any HTTP."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickover import HttpRequest, HttpResponse, Port, PortCall, Step, Workflow
from tickover.boundary.exchange import decoded, plain_response, port_call, response_of
from tickover.boundary.files import content_of
from tickover.boundary.http_body import unchunked
from tickover.tape import TapeEntry

PORT = Port(
    name="model",
    connect=lambda: None,
    methods=("ask",),
    call_of=lambda request: (
        PortCall(port="model", method="ask", request=json.loads(request.body)) if "/ask" in request.url else None
    ),
    response_of=lambda answer: HttpResponse(status=200, headers={}, body=json.dumps({"wrapped": answer}).encode()),
)
FLOW = Workflow(name="job", version="1", steps=[Step(name="s", run=lambda context: None)], ports=[PORT])


def request(url: str, body: bytes = b"", method: str = "POST") -> HttpRequest:
    return HttpRequest(method=method, url=url, headers={}, body=body)


def entry(answer: Any = None, error: Any = None) -> TapeEntry:
    return TapeEntry(
        run="r", tick=1, step="s", port="model", method="ask", request={}, request_hash="h", occurrence=0, attempt=1,
        answer=answer, error=error, latency_ms=1, recorded_by="async",
    )  # fmt: skip


def test_a_call_is_the_first_ports_that_claims_it() -> None:
    """A port's `call_of` decides; what none claims is the port "http", with URL and body."""
    port, call = port_call(FLOW, request("http://h/ask", b'{"q": 1}'))
    assert (port, call) == (PORT, PortCall(port="model", method="ask", request={"q": 1}))
    port, call = port_call(FLOW, request("http://h/other?x=1", b"\xff"))
    assert port is None
    assert call == PortCall(
        port="http", method="POST", request={"url": "http://h/other?x=1", "body": {"base64": "/w=="}}
    )


def test_json_bodies_are_one_call_whatever_their_white_space() -> None:
    """Order of keys and white space of a JSON body make no other call; its values do."""
    hashes = {
        port_call(FLOW, request("http://h/", body))[1].hash() for body in (b'{"a":1,"b":2}', b'{"b": 2, "a": 1}')
    }
    assert len(hashes) == 1
    assert port_call(FLOW, request("http://h/", b'{"a": 1.0, "b": 2}'))[1].hash() not in hashes
    assert port_call(FLOW, request("http://h/", b"{broken"))[1].request["body"] == {"text": "{broken"}


@given(st.binary(max_size=200), st.lists(st.integers(1, 50), max_size=6))
def test_chunks_are_put_together(body: bytes, sizes: list[int]) -> None:
    """Any body cut in any chunks comes out whole; cut off anywhere, it is refused."""
    raw, rest = b"", body
    for size in [*sizes, len(body)]:
        part, rest = rest[:size], rest[size:]
        if part:
            raw += f"{len(part):x};extension=1\r\n".encode() + part + b"\r\n"
    whole = raw + b"0\r\n\r\n"
    assert unchunked(whole) == body
    for cut in range(0, len(raw), 7):
        with pytest.raises(ValueError):
            unchunked(raw[:cut])


@pytest.mark.parametrize(
    ("coding", "encode"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", lambda b: zlib.compress(b)[2:-4])],
)
def test_content_coding_is_taken_off(coding: str, encode: Any) -> None:
    """What is recorded is the content, not its compression; the header goes with it."""
    response = HttpResponse(status=200, headers={"Content-Encoding": coding, "X": "y"}, body=encode(b"content"))
    assert decoded(response) == HttpResponse(status=200, headers={"X": "y"}, body=b"content")


def test_what_legacy_is_shown_for_an_entry() -> None:
    """An answer goes through the port; an error is the recorded response, a status, or a broken connection."""
    assert json.loads(response_of(PORT, entry({"a": 1})).body) == {"wrapped": {"a": 1}}
    seen = HttpResponse(status=200, headers={"content-type": "text/plain"}, body=b"{malformed")
    error = {"kind": "decode", "message": "m", "status": 200, "response": plain_response(seen)}
    assert response_of(PORT, entry(error=error)) == seen
    status = response_of(PORT, entry(error={"kind": "http", "message": "no", "status": 503}))
    assert (status.status, json.loads(status.body)) == (503, {"error": "no"})
    with pytest.raises(TimeoutError):
        response_of(PORT, entry(error={"kind": "timeout", "message": "late", "status": None}))
    with pytest.raises(ConnectionError):
        response_of(PORT, entry(error={"kind": "connection", "message": "gone", "status": None}))


@given(st.binary(max_size=40))
def test_a_response_survives_the_tape(body: bytes) -> None:
    """Any body of the port "http" comes back byte for byte."""
    response = HttpResponse(status=404, headers={"content-type": "x/y"}, body=body)
    assert response_of(None, entry(plain_response(response))) == response


@given(st.binary(max_size=40))
def test_bytes_stand_as_text_where_they_are_text(content: bytes) -> None:
    """UTF-8 is text, everything else base64."""
    (name,) = content_of(content)
    try:
        content.decode("utf-8")
        assert name == "text"
    except UnicodeDecodeError:
        assert name == "base64"
