"""The HTTP adapters, on real clients and a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.boundary_support import SAMPLES, Probe, Service, effects
from tickover.boundary import LegacyObservation, Mode, Outcome
from tickover.boundary.child import LegacyProcess
from tickover.tape import TapeEntry


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.close()


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory, service: Service) -> Iterator[Probe]:
    home = tmp_path_factory.mktemp("http") / "home"
    with LegacyProcess("probe:probe", home, {"SERVICE_URL": service.url}, project=[SAMPLES]) as process:
        yield Probe(process)


CLIENTS = {
    "urllib": """
import os, json, urllib.error, urllib.request
def ask(path, body=None):
    request = urllib.request.Request(os.environ["SERVICE_URL"] + path, data=body, method="POST" if body else "GET")
    try:
        response = urllib.request.urlopen(request, timeout=5)
    except urllib.error.HTTPError as error:
        response = error
    with response:
        return [response.status, response.read().decode()]
""",
    "requests": """
import os, requests
session = requests.Session()
def ask(path, body=None):
    response = session.request("POST" if body else "GET", os.environ["SERVICE_URL"] + path, data=body, timeout=5)
    return [response.status_code, response.text]
""",
    "http.client": """
import os, http.client
connection = http.client.HTTPConnection(os.environ["SERVICE_URL"].removeprefix("http://"), timeout=5)
def ask(path, body=None):
    connection.request("POST" if body else "GET", path, body=body)
    response = connection.getresponse()
    return [response.status, response.read().decode()]
""",
    "httpx": """
import os, httpx
client = httpx.Client(timeout=5)
def ask(path, body=None):
    response = client.request("POST" if body else "GET", os.environ["SERVICE_URL"] + path, content=body)
    return [response.status_code, response.text]
""",
    "httpx async": """
import os, httpx, asyncio
def ask(path, body=None):
    async def go():
        async with httpx.AsyncClient(timeout=5) as client:
            return await client.request("POST" if body else "GET", os.environ["SERVICE_URL"] + path, content=body)
    response = asyncio.run(go())
    return [response.status_code, response.text]
""",
}


def entry(seen: LegacyObservation) -> TapeEntry:
    (found,) = seen.calls
    return found


@pytest.mark.parametrize("client", list(CLIENTS))
def test_a_call_is_recorded_and_replayed(probe: Probe, service: Service, client: str) -> None:
    """What a client was answered stands on the tape, whole, and a replay gives it the same without a connection."""
    code = (
        CLIENTS[client]
        + """
return probe.one(lambda: [ask("/ask", b'{"word": "you"}'), ask("/plain?x=1"), ask("/ask", b'{"word": "you"}')])
"""
    )
    seen = probe(code)
    assert seen.error is None
    assert seen.harness_errors == ()
    assert seen.unobserved == ()
    assert [(call.step, call.port, call.method, call.occurrence) for call in seen.calls] == [
        ("one", "http", "POST", 0),
        ("one", "http", "GET", 0),
        ("one", "http", "POST", 1),
    ]
    assert seen.calls[0].request == {"url": f"{service.url}/ask", "body": {"json": {"word": "you"}}}
    assert seen.calls[1].answer["body"] == {"text": "abcde"}
    assert seen.result[1] == [200, "abcde"]
    assert seen.result[0] != seen.result[2]
    hits = len(service.hits)
    again = probe(code, mode=Mode.COPY, tape=seen.calls)
    assert again.result == seen.result
    assert again.harness_errors == ()
    assert len(service.hits) == hits


@pytest.mark.parametrize("client", list(CLIENTS))
def test_errors_of_a_server_are_replayed_as_they_were(probe: Probe, service: Service, client: str) -> None:
    """An error status and a malformed body reach legacy on replay as they did live."""
    code = CLIENTS[client] + "return [ask('/broken', b'x'), ask('/malformed', b'x')]"
    seen = probe(code)
    assert seen.result == [[500, '{"error": "out of order"}'], [200, "{not json"]]
    hits = len(service.hits)
    assert probe(code, mode=Mode.COPY, tape=seen.calls).result == seen.result
    assert len(service.hits) == hits


@pytest.mark.parametrize("client", ["urllib", "requests", "http.client", "httpx"])
def test_a_refused_connection_is_recorded_and_replayed(probe: Probe, client: str) -> None:
    """A connection error stands on the tape as one, and a replay fails for legacy too."""
    code = (
        "import os; url = os.environ['SERVICE_URL']; os.environ['SERVICE_URL'] = 'http://127.0.0.1:1'\n"
        + CLIENTS[client]
        + """
try:
    ask("/gone")
except Exception as error:
    return "failed"
finally:
    os.environ["SERVICE_URL"] = url
"""
    )
    seen = probe(code)
    assert seen.result == "failed"
    assert entry(seen).error is not None
    assert entry(seen).error["kind"] == "connection"
    assert seen.unobserved == ()
    again = probe(code, mode=Mode.COPY, tape=seen.calls)
    assert again.result == "failed"
    assert again.calls == ()


def test_a_timeout_is_recorded_and_replayed_as_a_timeout(probe: Probe) -> None:
    """A read that ran into legacy's own limit is an error of kind timeout, and its replay raises the same class."""
    code = """
import os, requests
try:
    requests.post(os.environ["SERVICE_URL"] + "/slow", json={"word": "x"}, timeout=0.05)
except requests.Timeout as error:
    return type(error).__name__
"""
    seen = probe(code)
    assert seen.result == "ReadTimeout"
    assert entry(seen).error is not None
    assert entry(seen).error["kind"] == "timeout"
    assert probe(code, mode=Mode.COPY, tape=seen.calls).result == "ReadTimeout"


def test_a_port_claims_its_calls(probe: Probe) -> None:
    """A request that a port's `call_of` maps is that port's call on the tape, answer parsed."""
    seen = probe(CLIENTS["requests"] + "return ask('/bank/balance', b'{\"word\": \"me\"}')")
    assert (entry(seen).port, entry(seen).method) == ("bank", "balance")
    assert entry(seen).answer["said"] == "hi me"
    assert entry(seen).request_hash
    assert effects(seen) == []


def test_writing_is_never_live_on_a_copy(probe: Probe, service: Service) -> None:
    """A method that writes, a POST that no port claims, and any miss under `fail` are refused on a copy."""
    hits = len(service.hits)
    for on_miss, path, body in [("live", "/bank/pay", "b'x'"), ("live", "/ask", "b'x'"), ("fail", "/plain", "None")]:
        seen = probe(CLIENTS["requests"] + f"return ask({path!r}, {body})", mode=Mode.COPY, on_miss=on_miss)
        assert seen.outcome is Outcome.FAILED
        assert any(name.startswith("refused: ") for name in seen.unobserved)
        assert seen.calls == ()
    assert len(service.hits) == hits


def test_a_miss_on_a_copy_is_called_live_and_flagged(probe: Probe, service: Service) -> None:
    """A reading call that is not on a copy's tape is made, recorded and marked as missed."""
    other = probe(CLIENTS["requests"] + "return ask('/plain?other')")
    hits = len(service.hits)
    seen = probe(CLIENTS["requests"] + "return ask('/plain?new')", mode=Mode.COPY, tape=other.calls)
    assert seen.result == [200, "abcde"]
    assert entry(seen).missed
    assert service.hits[hits:] == ["/plain?new"]


def test_a_copy_takes_the_recorded_time_and_a_reference_none(probe: Probe) -> None:
    """A copy waits as long as the call took when it was recorded; a reference does not."""
    code = (
        CLIENTS["requests"]
        + "import time; begun = time.monotonic(); said = ask('/slow', b'x'); return time.monotonic() - begun"
    )
    seen = probe(code)
    copied = probe(code, mode=Mode.COPY, tape=seen.calls)
    referred = probe(code, mode=Mode.REFERENCE, tape=seen.calls)
    assert copied.result >= entry(seen).latency_ms / 1000 * 0.95
    assert referred.result < 0.15


def test_an_unclaimed_write_is_an_effect(probe: Probe, service: Service) -> None:
    """A POST that no port claims changes the world, as far as anybody can tell: it is an effect of the control."""
    seen = probe(CLIENTS["urllib"] + "ask('/ask', b'{\"word\": \"w\"}')")
    assert effects(seen) == [
        ("", "http:insert", {"url": f"{service.url}/ask", "method": "POST", "body": {"json": {"word": "w"}}})
    ]


def test_a_call_is_recorded_to_its_end_though_its_caller_gave_up(probe: Probe) -> None:
    """A call in an abandoned thread is reported late, with its answer, in its own step."""
    seen = probe(
        CLIENTS["requests"]
        + """
import threading
def step():
    return ask("/slow", b"x")[0]
thread = threading.Thread(target=probe.one, args=(step,), daemon=True)
thread.start(); thread.join(0.05)
"""
    )
    assert seen.calls == ()
    assert seen.steps["one"].gave_up
    assert seen.steps["one"].duration_ms is None
    from tests.integration.boundary_support import wait_for

    (late,) = wait_for(probe.process.late_effects)
    assert (late.tick, late.calls[0].step, late.calls[0].answer["status"]) == (seen.tick, "one", 200)
    assert late.calls[0].latency_ms > 150
    if not late.steps:
        (late,) = wait_for(probe.process.late_effects)
    assert late.steps["one"].result == 200
    assert late.steps["one"].gave_up
