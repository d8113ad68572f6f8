"""The tape: recorded port calls, and which of them answers a call. Pure: whoever holds a tape stores it.

The key of an entry is (run, tick, step, request hash, occurrence within the attempt). A recorded error belongs to the
attempt that met it, so that a retry can succeed; a recorded answer serves every attempt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tickover.canonical import Json
from tickover.errors import PortError
from tickover.ports import PortCall


@dataclass(frozen=True, kw_only=True, slots=True)
class TapeEntry:
    """One recorded call; immutable. Exactly one of `answer` and `error` counts: `error` is None for an answer.

    occurrence: how many equal calls the attempt had made before. error: `{"kind", "message", "status"}`.
    latency_ms: how long the call took. recorded_by: the system that called. missed: it was called live because the
    tape did not have it.
    """

    run: str
    tick: int
    step: str
    port: str
    method: str
    request: Json
    request_hash: str
    occurrence: int
    attempt: int
    answer: Json
    error: Mapping[str, Any] | None
    latency_ms: float
    recorded_by: str
    execution_id: str | None = None
    missed: bool = False

    def to_json(self) -> dict[str, Any]:
        """The entry as a JSON document."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> TapeEntry:
        """The entry that `to_json` wrote."""
        return cls(**document)

    def play(self) -> Json:
        """The answer. Raises the recorded error as a PortError."""
        if self.error is not None:
            raise PortError(self.error["kind"], self.error["message"], self.error.get("status"))
        return self.answer


def error_document(error: PortError) -> dict[str, Any]:
    """How an error stands on a tape."""
    return {"kind": error.kind, "message": error.message, "status": error.status}


class Tape:
    """The entries that one attempt of one step may replay, with the count of what it has asked so far.

    prefer_answers: replay an answer of any attempt before an error of this one (what a reference does).
    """

    def __init__(self, entries: Iterable[TapeEntry], *, attempt: int = 1, prefer_answers: bool = False) -> None:
        self._attempt, self._prefer_answers = attempt, prefer_answers
        self._asked: Counter[str] = Counter()
        self._entries: dict[tuple[str, int], list[TapeEntry]] = {}
        for entry in entries:
            self._entries.setdefault((entry.request_hash, entry.occurrence), []).append(entry)

    def find(self, call: PortCall) -> tuple[TapeEntry | None, str, int]:
        """The entry that answers the call (None for a miss), the request's hash, and the occurrence of the call."""
        request_hash = call.hash()
        occurrence = self._asked[request_hash]
        self._asked[request_hash] += 1
        found = self._entries.get((request_hash, occurrence), ())
        own_error = next(
            (entry for entry in found if entry.error is not None and entry.attempt == self._attempt), None
        )
        answer = next((entry for entry in found if entry.error is None), None)
        chosen = (answer or own_error) if self._prefer_answers else (own_error or answer)
        return chosen, request_hash, occurrence


class TapeStore(Protocol):
    """Where entries are kept between processes."""

    def entries(self, run: str, tick: int, step: str) -> list[TapeEntry]:
        """All entries of a step of a tick."""

    def record(self, entry: TapeEntry) -> None:
        """Keep an entry; one that is there already (same key, attempt and recorder) is kept as it was."""

    def replace_all(self, entries: Iterable[TapeEntry]) -> None:
        """Keep several entries, all or none, each in place of one that is there already."""
