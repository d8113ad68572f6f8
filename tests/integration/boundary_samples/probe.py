"""A legacy whose tick is the function `tick` of `tick.py` in its home, read anew each time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tickover import Port, PortCall, Step, Workflow


def run(tick: int) -> Any:
    path = Path("tick.py").resolve()
    namespace: dict[str, Any] = {"__name__": "tick_code", "__file__": str(path)}
    exec(compile(path.read_text(), str(path), "exec"), namespace)
    return namespace["tick"](tick)


def one(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


def two(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


async def three(function: Callable[..., Any], *args: Any) -> Any:
    return await function(*args)


def _nothing(context: Any) -> None:
    return None


probe = Workflow(
    name="probe",
    version="1",
    steps=[
        Step(name="one", run=_nothing),
        Step(name="two", run=_nothing, needs=("one",)),
        Step(name="three", run=_nothing),
    ],
    ports=[
        Port(
            name="bank",
            connect=lambda: None,
            methods=("pay", "balance"),
            writes=("pay",),
            call_of=lambda request: (
                PortCall(port="bank", method=request.url.rpartition("/")[2], request={"body": request.body.decode()})
                if "/bank/" in request.url
                else None
            ),
        )
    ],
    legacy="probe:run",
    legacy_steps={"one": "probe:one", "two": "probe:two", "three": "probe:three"},
)
