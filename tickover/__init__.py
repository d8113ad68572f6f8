"""Tickover: run the old and the new system side by side, compare, decide, switch, and go back.

This package is the public contract of a workload. It needs the standard library only.
"""

from tickover.canonical import canonical_bytes, canonical_text, digest, normalise
from tickover.context import Absent, TickContext
from tickover.effects import Effect
from tickover.errors import PortError, TickoverError, UndeclaredNeed
from tickover.ports import HttpRequest, HttpResponse, Port, PortCall
from tickover.workflow import RetryPolicy, Step, Workflow, Write

__version__ = "0.1.0"

__all__ = [
    "Absent",
    "Effect",
    "HttpRequest",
    "HttpResponse",
    "Port",
    "PortCall",
    "PortError",
    "RetryPolicy",
    "Step",
    "TickContext",
    "TickoverError",
    "UndeclaredNeed",
    "Workflow",
    "Write",
    "canonical_bytes",
    "canonical_text",
    "digest",
    "normalise",
]
