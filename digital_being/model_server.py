"""The scripted model as an HTTP server in Ollama's API."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from digital_being import model_script as script


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """How the scripted model behaves; immutable. Latencies are in seconds at scale 1; 0 for `chat_s` and `embed_s`
    is at once.

    error_rate: share of requests that fail when first asked, with status 500. malformed_rate: share of JSON answers
    that are broken. slow_rate: share of chats that take 21 to 40 s.
    """

    seed: int = 7
    time_scale: float = 1.0
    chat_s: float = 4.0
    embed_s: float = 0.5
    error_rate: float = 0.004
    malformed_rate: float = 0.03
    slow_rate: float = 0.006

    @classmethod
    def quick(cls, seed: int = 7, **changes: Any) -> ModelSettings:
        """Answers at once, without errors."""
        return cls(**{"seed": seed, "chat_s": 0.0, "embed_s": 0.0, "error_rate": 0.0, "slow_rate": 0.0, **changes})


class ModelServer(ThreadingHTTPServer):
    """Serves the scripted model on a loopback address; port 0 takes a free one."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, settings: ModelSettings, host: str = "127.0.0.1", port: int = 0) -> None:
        self.settings = settings
        self._asked: Counter[str] = Counter()
        self._lock = threading.Lock()
        super().__init__((host, port), _Handler)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}"

    def times_asked(self, key: str) -> int:
        """How often this very request was asked before; this time is counted."""
        with self._lock:
            self._asked[key] += 1
            return self._asked[key] - 1

    def start(self) -> ModelServer:
        """Serve from a thread of its own."""
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def stop(self) -> None:
        """Serve no more."""
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ModelServer

    def setup(self) -> None:
        super().setup()
        self.request.setsockopt(6, 1, 1)  # TCP_NODELAY: an answer is written in two parts

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged."""

    def do_GET(self) -> None:
        if self.path == "/api/version":
            self._send(200, {"version": "0.0.0-scripted"})
        elif self.path == "/api/tags":
            self._send(200, {"models": [{"name": "being:latest", "model": "being:latest"}]})
        else:
            self._send(200 if self.path == "/" else 404, {"status": "scripted model"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            request = json.loads(body)
        except ValueError:
            self._send(400, {"error": "the request is no JSON"})
            return
        if self.path == "/api/chat":
            self._chat(request)
        elif self.path == "/api/embed":
            texts = request.get("input", [])
            texts = [texts] if isinstance(texts, str) else texts
            self._wait(
                script.generator_of(self.server.settings.seed, "embed", texts), self.server.settings.embed_s, 0.0
            )
            self._send(200, {"model": request.get("model"), "embeddings": [script.embedding(text) for text in texts]})
        elif self.path == "/api/embeddings":
            self._send(200, {"embedding": script.embedding(str(request.get("prompt", "")))})
        else:
            self._send(404, {"error": f"no such path: {self.path}"})

    def _chat(self, request: dict[str, Any]) -> None:
        settings = self.server.settings
        messages = [[message.get("role"), message.get("content")] for message in request.get("messages", [])]
        as_json = request.get("format") == "json"
        key = json.dumps([messages, as_json])
        draw = script.generator_of(settings.seed, messages, as_json)
        fails = draw.random() < settings.error_rate and self.server.times_asked(key) == 0
        self._wait(draw, settings.chat_s, settings.slow_rate)
        if fails:
            self._send(500, {"error": "the model ran out of memory"})
            return
        prompt = str(messages[-1][1]) if messages else ""
        content = script.answer(draw, prompt, as_json, settings.malformed_rate)
        message = {"role": "assistant", "content": content}
        self._send(200, {"model": request.get("model"), "created_at": _now(), "message": message, "done": True})

    def _wait(self, draw: Any, median_s: float, slow_rate: float) -> None:
        wait_s = script.latency_s(draw, median_s, slow_rate) * self.server.settings.time_scale
        if median_s > 0:
            time.sleep(wait_s)  # the model's latency is what is simulated here

    def _send(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document, ensure_ascii=False).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the caller gave up


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
