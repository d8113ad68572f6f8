"""Doors: live, from the tape, recorded when missed, refused where they must be."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from tickover import Port, PortError, Step, Workflow
from tickover.doors import LiveDoors, RecordingDoors, TapeDoors, forget_clients, open_doors
from tickover.draws import DerivedDraws
from tickover.errors import TapeMiss
from tickover.tape import TapeEntry

AT = dt.datetime(2030, 1, 2, tzinfo=dt.UTC)


class Bank:
    """A client that counts, fails, or is interrupted."""

    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        self.asked: list[Any] = []

    def balance(self, of: str) -> Any:
        self.asked.append(of)
        if of == "nobody":
            raise ConnectionError("no answer")
        if of == "interrupted":
            raise KeyboardInterrupt
        if of == "limit":
            raise Limit
        return (of, len(self.asked))

    def pay(self, to: str) -> Any:
        self.asked.append(to)


class Limit(BaseException):
    """What an engine raises in a step that ran into its limit."""


class MemoryStore:
    """A tape in memory."""

    def __init__(self) -> None:
        self.kept: list[TapeEntry] = []

    def entries(self, run: str, tick: int, step: str) -> list[TapeEntry]:
        return [one for one in self.kept if (one.run, one.tick, one.step) == (run, tick, step)]

    def record(self, entry: TapeEntry) -> None:
        self.kept.append(entry)

    def replace_all(self, entries: Iterable[TapeEntry]) -> None:
        self.kept.extend(entries)


FLOW = Workflow(
    name="job",
    version="1",
    steps=[Step(name="s", run=lambda context: None)],
    ports=[Port(name="bank", connect=Bank, methods=("balance", "pay"), writes=("pay",))],
)


@pytest.fixture(autouse=True)
def clients() -> Iterator[None]:
    forget_clients()
    yield
    forget_clients()


def doors(store: MemoryStore | None, harness: Any, attempt: int = 1) -> LiveDoors | RecordingDoors | TapeDoors:
    return open_doors(
        harness,
        FLOW,
        run="r",
        tick=3,
        step="s",
        attempt=attempt,
        execution_id="r/3/async/candidate/1",
        started_at=AT,
        store=store,
    )


def tape(**more: Any) -> dict[str, Any]:
    return {"tape": {"run": "r", "tick": 3, "latency": False, **more}}


def test_without_a_harness_calls_are_live_and_draws_derived() -> None:
    """The control's doors: answers in plain JSON, one client per process, errors as PortError."""
    live = doors(None, None)
    made = Bank.made
    assert live.call("bank", "balance", {"of": "ada"}) == ["ada", 1]
    assert doors(None, {}).call("bank", "balance", {"of": "ada"}) == ["ada", 2]
    assert Bank.made == made + 1
    with pytest.raises(PortError) as raised:
        live.call("bank", "balance", {"of": "nobody"})
    assert raised.value.kind == "connection"
    assert live.draws.new_id() == DerivedDraws("r", 3, "s", AT).new_id()
    assert live.draws.now() == AT


def test_a_miss_is_called_live_recorded_and_replayed() -> None:
    """What the tape lacks is called once, flagged, and answered from the tape afterwards, errors included."""
    store = MemoryStore()
    first = doors(store, tape())
    assert first.call("bank", "balance", {"of": "ada"}) == ["ada", 1]
    with pytest.raises(PortError, match="no answer"):
        first.call("bank", "balance", {"of": "nobody"})
    assert [(one.occurrence, one.missed, one.recorded_by, one.error is None) for one in store.kept] == [
        (0, True, "async", True),
        (0, True, "async", False),
    ]
    again = doors(store, tape(on_miss="fail"))
    assert again.call("bank", "balance", {"of": "ada"}) == ["ada", 1]
    with pytest.raises(PortError, match="no answer") as raised:
        again.call("bank", "balance", {"of": "nobody"})
    assert raised.value.kind == "connection"
    assert len(store.kept) == 2


@pytest.mark.parametrize("of", ["interrupted", "limit"])
def test_a_call_that_is_cut_off_leaves_nothing_on_the_tape(of: str) -> None:
    """A call that ended neither in an answer nor in an error of the port must not be replayed as one."""
    store = MemoryStore()
    with pytest.raises((KeyboardInterrupt, Limit)):
        doors(store, tape()).call("bank", "balance", {"of": of})
    assert store.kept == []


def test_live_calls_are_refused_where_they_must_not_be() -> None:
    """A method that writes is never called live for a candidate; nothing is under `on_miss` fail."""
    store = MemoryStore()
    with pytest.raises(TapeMiss, match=r"bank\.pay is not on the tape"):
        doors(store, tape()).call("bank", "pay", {"to": "ada"})
    with pytest.raises(TapeMiss, match=r"bank\.balance"):
        doors(store, tape(on_miss="fail")).call("bank", "balance", {"of": "ada"})
    assert store.kept == []


def test_replay_takes_as_long_as_the_call_did_unless_told_otherwise() -> None:
    """Latency is part of a replay."""
    store = MemoryStore()
    doors(store, tape()).call("bank", "balance", {"of": "ada"})
    (kept,) = store.kept
    slow = MemoryStore()
    slow.record(TapeEntry.from_json({**kept.to_json(), "latency_ms": 80.0}))
    begun_s = time.monotonic()
    doors(slow, tape(latency=True)).call("bank", "balance", {"of": "ada"})
    assert time.monotonic() - begun_s >= 0.08


def test_a_latency_belongs_to_the_attempt_that_met_it() -> None:
    """What came too late for the first attempt is answered at once for a retry, as it could be by a second call."""
    store = MemoryStore()
    doors(store, tape()).call("bank", "balance", {"of": "ada"})
    (kept,) = store.kept
    slow = MemoryStore()
    slow.record(TapeEntry.from_json({**kept.to_json(), "latency_ms": 60_000.0}))
    assert doors(slow, tape(latency=True), attempt=2).call("bank", "balance", {"of": "ada"}) == kept.answer


def test_recorded_draws_come_first() -> None:
    """With draws in the harness, a step draws what the control drew in that step, also when calls are live."""
    harness = {"draws": {"s": {"now": ["2031-01-01T00:00:00+00:00"], "random": [["random", None, 0.25]], "ids": []}}}
    for found in (doors(None, harness), doors(MemoryStore(), {**harness, **tape()})):
        assert found.draws.random.random() == 0.25
        assert found.draws.now().year == 2031
        assert found.draws.new_id() == DerivedDraws("r", 3, "s", AT).new_id()


SERVES = tape(records=True, serves=True)


def test_a_control_that_serves_calls_live_in_each_attempt() -> None:
    """A retry gets a new answer, as it would without a tape, and may call what writes; no call is a miss."""
    store = MemoryStore()
    for attempt in (1, 2):
        found = doors(store, SERVES, attempt)
        assert found.call("bank", "balance", {"of": "ada"}) == ["ada", 2 * attempt - 1]
        found.call("bank", "pay", {"to": "ada"})
        found.keep()
    assert [(one.attempt, one.method, one.occurrence, one.missed) for one in store.kept] == [
        (1, "balance", 0, False), (1, "pay", 0, False), (2, "balance", 0, False), (2, "pay", 0, False),
    ]  # fmt: skip
    assert found.draws.new_id() == DerivedDraws("r", 3, "s", AT).new_id()


def test_what_an_attempt_calls_is_on_the_tape_when_it_has_ended() -> None:
    """Whoever is killed in between leaves nothing; errors are kept, and so is each of several equal calls, as they
    were when they were made."""
    store = MemoryStore()
    doors(store, SERVES).call("bank", "balance", {"of": "killed"})
    found = doors(store, SERVES)
    request = {"of": "ada"}
    answer: Any = found.call("bank", "balance", request)
    answer.append("changed by the step")
    request["of"] = "changed by the step"
    with pytest.raises(PortError):
        found.call("bank", "balance", {"of": "nobody"})
    found.call("bank", "balance", {"of": "ada"})
    assert store.kept == []
    found.keep()
    found.keep()
    assert [(one.request, one.occurrence, one.error is None) for one in store.kept] == [
        ({"of": "ada"}, 0, True), ({"of": "nobody"}, 0, False), ({"of": "ada"}, 1, True),
    ]  # fmt: skip
    assert store.kept[0].answer == ["ada", 2]


def test_a_tape_that_cannot_be_written_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The answers of a control that serves count, whatever becomes of its tape."""

    class Full(MemoryStore):
        def replace_all(self, entries: Iterable[TapeEntry]) -> None:
            raise OSError("no space left")

    found = doors(Full(), SERVES)
    assert found.call("bank", "balance", {"of": "ada"}) == ["ada", 1]
    found.keep()
    assert [record.message for record in caplog.records] == ["tape.unwritten"]
