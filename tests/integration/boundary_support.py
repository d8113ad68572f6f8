"""What the tests of the boundary share: a service to call, and a legacy process that runs a given piece of code."""

from __future__ import annotations

import http.server
import itertools
import json
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tickover.boundary import LegacyObservation, LegacyRequest
from tickover.boundary.child import LegacyProcess

SAMPLES = Path(__file__).parent / "boundary_samples"


class Service:
    """A real HTTP server on loopback; `hits` has the path of each request it got."""

    def __init__(self) -> None:
        self.hits: list[str] = []
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                service.hits.append(self.path)
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                if self.path == "/slow":
                    time.sleep(0.2)
                if self.path == "/broken":
                    self._send(500, b'{"error": "out of order"}')
                elif self.path == "/malformed":
                    self._send(200, b"{not json")
                else:
                    word = json.loads(body)["word"] if body.startswith(b"{") else body.decode()
                    self._send(200, json.dumps({"said": f"hi {word}", "nth": len(service.hits)}).encode())

            def do_GET(self) -> None:
                service.hits.append(self.path)
                self.send_response(200)
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                self.wfile.write(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")

            def _send(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                return

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Probe:
    """A legacy process that runs pieces of code as ticks."""

    def __init__(self, process: LegacyProcess) -> None:
        self.process, self._ticks = process, itertools.count()

    def __call__(self, code: str, *, timeout_s: float = 30, **request: Any) -> LegacyObservation:
        """What was seen of a tick that runs `code`, the body of `def tick(n)`."""
        self.process.home.mkdir(parents=True, exist_ok=True)
        body = textwrap.indent(textwrap.dedent(code).strip(), "    ")
        (self.process.home / "tick.py").write_text(f"import probe\n\ndef tick(n):\n{body}\n")
        made = LegacyRequest(**{"run": "r", "tick": next(self._ticks), **request})
        return self.process.run_tick(made, timeout_s=timeout_s)


def effects(seen: LegacyObservation) -> list[tuple[str, str, Any]]:
    """Step, kind and payload of each effect, in order."""
    return [(one.effect.step, one.effect.kind, one.effect.payload) for one in seen.effects]


def wait_for(found: Callable[[], Any], limit_s: float = 10) -> Any:
    """The first true value of `found()`. Raises AssertionError after `limit_s` seconds."""
    deadline_s = time.monotonic() + limit_s
    while time.monotonic() < deadline_s:
        value = found()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"nothing within {limit_s} s")
