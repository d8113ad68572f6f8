"""The tape: which entry answers which call."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickover.errors import PortError
from tickover.ports import PortCall
from tickover.tape import Tape, TapeEntry, error_document


def call(request: Any = "q", port: str = "model", method: str = "chat") -> PortCall:
    return PortCall(port=port, method=method, request=request)


def entry(
    answer: Any = None, *, request: Any = "q", occurrence: int = 0, attempt: int = 1, error: PortError | None = None
) -> TapeEntry:
    asked = call(request)
    return TapeEntry(
        run="r",
        tick=1,
        step="s",
        port=asked.port,
        method=asked.method,
        request=request,
        request_hash=asked.hash(),
        occurrence=occurrence,
        attempt=attempt,
        answer=answer,
        error=None if error is None else error_document(error),
        latency_ms=1.5,
        recorded_by="legacy",
    )


BROKEN = PortError("http", "out of order", 500)


def test_the_hash_depends_on_port_method_and_canonical_request() -> None:
    """Equal calls have equal hashes, whatever the order of keys; any difference makes another."""
    assert call({"a": 1, "b": 2}).hash() == call({"b": 2, "a": 1}).hash()
    hashes = {c.hash() for c in (call(1), call(1.0), call("1"), call(1, port="p"), call(1, method="m"), call(True))}
    assert len(hashes) == 6


def test_equal_requests_are_told_apart_by_occurrence() -> None:
    """The first, second and third asking of one request find the entries of those occurrences; a fourth misses."""
    tape = Tape([entry("a"), entry("b", occurrence=1), entry("x", request="other")])
    assert [tape.find(call())[0].answer for _ in range(2)] == ["a", "b"]  # type: ignore[union-attr]
    assert tape.find(call()) == (None, call().hash(), 2)
    assert tape.find(call("other"))[0].answer == "x"  # type: ignore[union-attr]


def test_a_recorded_error_belongs_to_its_attempt() -> None:
    """Attempt 1 meets its error again, attempt 2 its own answer; an answer serves every attempt."""
    entries = [entry(error=BROKEN, attempt=1), entry("well", attempt=2)]
    first, _, _ = Tape(entries, attempt=1).find(call())
    assert first is not None
    with pytest.raises(PortError, match="out of order") as raised:
        first.play()
    assert (raised.value.kind, raised.value.status) == ("http", 500)
    for attempt in (2, 3):
        found, _, _ = Tape(entries, attempt=attempt).find(call())
        assert found is not None
        assert found.play() == "well"


def test_an_error_of_another_attempt_is_no_answer() -> None:
    """A retry whose tape has only the first attempt's error calls live."""
    assert Tape([entry(error=BROKEN, attempt=1)], attempt=2).find(call())[0] is None


def test_a_reference_prefers_answers() -> None:
    """A reference replays an answer of any attempt before an error; with no answer, the error."""
    both = Tape([entry(error=BROKEN), entry("well", attempt=2)], prefer_answers=True)
    assert both.find(call())[0].answer == "well"  # type: ignore[union-attr]
    alone = Tape([entry(error=BROKEN)], prefer_answers=True)
    assert alone.find(call())[0].error["kind"] == "http"  # type: ignore[union-attr, index]


requests = st.sampled_from(["a", "b", {"c": 1}])


@given(st.lists(requests, max_size=12))
def test_whoever_asks_the_same_gets_the_same(asked: list[Any]) -> None:
    """A replay of any sequence of calls finds exactly the entries that the sequence recorded."""
    recorder = Tape([])
    recorded = []
    for number, request in enumerate(asked):
        missing, _, occurrence = recorder.find(call(request))
        assert missing is None
        recorded.append(entry(number, request=request, occurrence=occurrence))
    replay = Tape(reversed(recorded))
    assert [replay.find(call(request))[0].answer for request in asked] == list(range(len(asked)))  # type: ignore[union-attr]


def test_entries_survive_json() -> None:
    """An entry written and read is the same."""
    for one in (entry({"a": [1, None]}), entry(error=BROKEN)):
        assert TapeEntry.from_json(json.loads(json.dumps(one.to_json()))) == one
