"""The boundary's edges: TLS, bodies left unread, and what is too much to note."""

from __future__ import annotations

import http.server
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.boundary_support import SAMPLES, Probe, Service, effects
from tickover.boundary import Mode
from tickover.boundary.child import LegacyProcess


class Quiet(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"x" * 20_000_000 if self.path == "/big" else b"over TLS"
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """URL and certificate of a real HTTPS server."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate, and is not installed")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key", "-out", "cert", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert", folder / "key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"https://localhost:{server.server_port}", folder / "cert"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.close()


@pytest.fixture
def probe(tmp_path: Path, service: Service) -> Iterator[Probe]:
    with LegacyProcess("probe:probe", tmp_path / "home", {"SERVICE_URL": service.url}, project=[SAMPLES]) as process:
        yield Probe(process)


TLS_CLIENTS = {
    "requests": "import requests; return requests.get({url!r} + '/', verify={cert!r}, timeout=5).text",
    "urllib": (
        "import ssl, urllib.request; context = ssl.create_default_context(cafile={cert!r})\n"
        "return urllib.request.urlopen({url!r} + '/', timeout=5, context=context).read().decode()"
    ),
    "httpx": (
        "import ssl, httpx; context = ssl.create_default_context(cafile={cert!r})\n"
        "return httpx.get({url!r} + '/', verify=context, timeout=5).text"
    ),
}


@pytest.mark.parametrize("client", list(TLS_CLIENTS))
def test_calls_over_tls_are_recorded_and_replayed(probe: Probe, tls: tuple[str, Path], client: str) -> None:
    """HTTPS is seen as HTTP is, under its own URL, and replayed without a handshake."""
    url, cert = tls
    code = TLS_CLIENTS[client].format(url=url, cert=str(cert))
    seen = probe(code)
    assert seen.result == "over TLS"
    assert seen.unobserved == ()
    assert [call.request["url"] for call in seen.calls] == [f"{url}/"]
    gone = seen.calls[0]
    again = probe(code, mode=Mode.COPY, tape=[gone], on_miss="fail")
    assert again.result == "over TLS"
    assert again.calls == ()


@pytest.mark.parametrize("client", list(TLS_CLIENTS))
def test_a_handshake_that_fails_is_a_failed_call(probe: Probe, tls: tuple[str, Path], client: str) -> None:
    """A connection that was never made stands on the tape as the failure of the call it was for."""
    code = TLS_CLIENTS[client].format(url="https://localhost:1", cert=str(tls[1]))
    body = "try:\n" + "\n".join("    " + line for line in code.split("\n")) + "\nexcept Exception: return 'failed'"
    seen = probe(body)
    assert seen.result == "failed"
    assert [(call.request["url"], (call.error or {})["kind"]) for call in seen.calls] == [
        ("https://localhost:1/", "connection")
    ]
    assert probe(body, mode=Mode.COPY, tape=seen.calls, on_miss="fail").result == "failed"


def test_a_body_left_unread_is_still_an_answer(probe: Probe) -> None:
    """Legacy that looks at the status only, or reads a part, is shown the same on replay."""
    code = """
import os, urllib.request
url = os.environ["SERVICE_URL"] + "/plain"
with urllib.request.urlopen(url) as response:
    said = [response.status]
with urllib.request.urlopen(url) as response:
    said.append(response.read(2).decode())
return said
"""
    seen = probe(code)
    assert seen.result == [200, "ab"]
    assert [call.error for call in seen.calls] == [None, None]
    assert probe(code, mode=Mode.COPY, tape=seen.calls, on_miss="fail").result == [200, "ab"]


def test_a_connection_that_breaks_off_is_an_error(probe: Probe) -> None:
    """A body that ends before its length is a failure of the connection, for legacy and on the tape."""
    seen = probe(
        """
import http.client, socket, threading
server = socket.create_server(("127.0.0.1", 0))
def serve():
    peer, _ = server.accept()
    peer.recv(1000); peer.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 10\\r\\n\\r\\nabc"); peer.close()
threading.Thread(target=serve).start()
connection = http.client.HTTPConnection("127.0.0.1", server.getsockname()[1])
connection.request("GET", "/")
try:
    connection.getresponse().read()
except http.client.IncompleteRead as error:
    return error.partial.decode()
finally:
    connection.close(); server.close()
"""
    )
    assert seen.result == "abc"
    (call,) = seen.calls
    assert call.error is not None
    assert call.error["kind"] == "IncompleteRead"


def test_what_is_too_much_to_note_is_named(probe: Probe, tls: tuple[str, Path]) -> None:
    """Endless draws, huge transactions and huge answers reach legacy whole, and are named instead of held."""
    url, cert = tls
    seen = probe(
        f"""
import random, sqlite3, ssl, urllib.request
total = sum(1 for _ in range(30_000) if random.random() < 2)
c = sqlite3.connect("a.db"); c.execute("CREATE TABLE t (x)")
c.executemany("INSERT INTO t VALUES (?)", ((n,) for n in range(12_000))); c.commit()
context = ssl.create_default_context(cafile={str(cert)!r})
body = urllib.request.urlopen({url!r} + "/big", context=context).read()
return [total, c.execute("SELECT count(*) FROM t").fetchone()[0], len(body)]
"""
    )
    assert seen.result == [30_000, 12_000, 20_000_000]
    assert set(seen.unobserved) == {
        "over 10000 draws of a kind in step ''",
        "sqlite3 a.db: over 10000 row changes in a transaction",
        "http: an answer over 16777216 bytes",
    }
    assert len(seen.draws[""]["random"]) == 10_000
    assert len(effects(seen)) == 10_000
    assert seen.calls == ()
    assert seen.harness_errors == ()


def test_trees_links_and_attached_databases(probe: Probe) -> None:
    """Files removed with their tree are seen by name; links and attached databases are named as unobserved."""
    home = probe.process.home
    (home / "tree" / "deep").mkdir(parents=True)
    (home / "tree" / "deep" / "leaf").write_text("x")
    seen = probe(
        """
import os, shutil, sqlite3
shutil.rmtree("tree")
os.symlink("nowhere", "link")
c = sqlite3.connect("a.db"); c.execute("ATTACH 'b.db' AS b")
"""
    )
    assert [(kind, payload) for _, kind, payload in effects(seen)] == [("file:tree/deep/leaf.remove", None)]
    assert set(seen.unobserved) == {"os.symlink", "sqlite3 a.db: an attached database"}
