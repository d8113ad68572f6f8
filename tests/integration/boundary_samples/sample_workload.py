"""The workload around the old job."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tickover import HttpRequest, HttpResponse, Port, PortCall, PortError, Step, Workflow, Write


def _call_of(request: HttpRequest) -> PortCall | None:
    if urlsplit(request.url).path != "/ask":
        return None
    return PortCall(port="service", method="ask", request=json.loads(request.body))


def _answer_of(response: HttpResponse) -> Any:
    if response.status != 200:
        raise PortError("http", response.body.decode(), response.status)
    return json.loads(response.body)


def _response_of(answer: Any) -> HttpResponse:
    return HttpResponse(status=200, headers={"content-type": "application/json"}, body=json.dumps(answer).encode())


def _nothing(context: Any) -> None:
    return None


def _effect(write: Write) -> tuple[str, Any] | None:
    from tickover.boundary.effects import default_effect

    return None if write.target == "job.json" else default_effect(write, "id")


def _read_state(home: Path) -> Any:
    path = home / "job.json"
    return json.loads(path.read_text()) if path.exists() else {"total": 0}


def _write_state(home: Path, document: Any) -> None:
    (home / "job.json").write_text(json.dumps(document))


def _plain(value: Any) -> Any:
    if isinstance(value, dt.datetime) and value.tzinfo is None:
        return value.isoformat()
    return value


old_job = Workflow(
    name="old_job",
    version="1",
    steps=[
        Step(name="gather", run=_nothing),
        Step(name="decide", run=_nothing, needs=("gather",)),
        Step(name="store", run=_nothing, needs=("decide",)),
        Step(name="slow", run=_nothing, needs=("store",), critical=False),
    ],
    ports=[
        Port(
            name="service",
            connect=lambda: None,
            methods=("ask",),
            call_of=_call_of,
            answer_of=_answer_of,
            response_of=_response_of,
        )
    ],
    normalise=_plain,
    legacy="old_job:run_tick",
    legacy_steps={name: f"old_job:Job.{name}" for name in ("gather", "decide", "store", "slow")},
    legacy_effects=_effect,
    read_state=_read_state,
    write_state=_write_state,
)
