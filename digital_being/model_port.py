"""The port "model": the being's language model, over HTTP in Ollama's API."""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.parse import urlsplit

from tickover import HttpRequest, HttpResponse, Port, PortCall, PortError

DEFAULT_URL = "http://127.0.0.1:11434"


def model_url() -> str:
    """Where the model is: TICKOVER_MODEL_URL, else OLLAMA_HOST, else Ollama's own default."""
    return os.environ.get("TICKOVER_MODEL_URL") or os.environ.get("OLLAMA_HOST") or DEFAULT_URL


def model_name() -> str:
    """The model to ask: TICKOVER_MODEL_NAME."""
    return os.environ.get("TICKOVER_MODEL_NAME", "being")


class ModelClient:
    """A live connection to the model; answers are what the steps need of Ollama's."""

    def __init__(self) -> None:
        # Only now: it takes half of what a command takes to start, and most commands ask no model.
        import ollama

        self._client = ollama.Client(host=model_url(), timeout=300)

    def close(self) -> None:
        """Close the connections."""
        self._client._client.close()

    def chat(self, model: str, messages: list[dict[str, str]], format: str) -> dict[str, Any]:
        """`{"content": text}` for a conversation; `format` is "json" or empty."""
        answer = self._client.chat(model=model, messages=messages, format="json" if format == "json" else "")
        return {"content": answer.message.content or ""}

    def embed(self, model: str, input: list[str]) -> dict[str, Any]:
        """`{"embeddings": [[...], ...]}`, one vector per text."""
        answer = self._client.embed(model=model, input=input)
        return {"embeddings": [list(vector) for vector in answer.embeddings]}


def call_of(request: HttpRequest) -> PortCall | None:
    """The call that an HTTP request of the old system is, or None if it goes elsewhere."""
    path = urlsplit(request.url).path
    if request.method != "POST" or path not in ("/api/chat", "/api/embed"):
        return None
    body = json.loads(request.body)
    if path == "/api/chat":
        asked = {"model": body["model"], "messages": body["messages"], "format": body.get("format", "")}
        return PortCall(port="model", method="chat", request=asked)
    return PortCall(port="model", method="embed", request={"model": body["model"], "input": body["input"]})


def answer_of(response: HttpResponse) -> dict[str, Any]:
    """The answer that the new system's client would give for a response. Raises PortError for an error."""
    if response.status >= 400:
        raise PortError("http", response.body.decode("utf-8", "replace")[:500], response.status)
    body = json.loads(response.body)
    if "embeddings" in body:
        return {"embeddings": body["embeddings"]}
    return {"content": body["message"]["content"]}


def response_of(answer: dict[str, Any]) -> HttpResponse:
    """The response that shows an answer to the old system."""
    document = answer if "embeddings" in answer else {"message": {"role": "assistant", **answer}, "done": True}
    body = json.dumps(document, ensure_ascii=False).encode()
    return HttpResponse(status=200, headers={"Content-Type": "application/json; charset=utf-8"}, body=body)


model = Port(
    name="model", connect=ModelClient, methods=("chat", "embed"), call_of=call_of, answer_of=answer_of,
    response_of=response_of,
)  # fmt: skip
