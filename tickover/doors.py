"""Doors: where a step's draws and port calls come from, live or from a tape.

The harness document of an execution decides; the engine passes it on unread: `{"tape": {"run", "tick", "on_miss":
"live"|"fail", "latency": true, "records": true, "serves": true}, "draws": {step: record} or null, "started_at":
ISO}`. With `records` the execution is the one that makes the tape, so that what it calls is no miss. With `serves`
its answer counts: it calls live in each attempt, as it would without a tape, and a tape that cannot be written is a
loss to the other system alone.
"""

from __future__ import annotations

import copy
import datetime as dt
import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tickover.canonical import Json, normalise
from tickover.draws import DerivedDraws, Draws, RecordedDraws
from tickover.errors import PortError, TapeMiss, TickoverError
from tickover.ports import PortCall
from tickover.tape import Tape, TapeEntry, TapeStore, error_document
from tickover.workflow import Workflow

log = logging.getLogger(__name__)

_clients: dict[tuple[str, str], Any] = {}
_clients_lock = threading.Lock()


def client_of(workflow: Workflow, name: str) -> Any:
    """The live client of a port, made once per process."""
    with _clients_lock:
        if (workflow.name, name) not in _clients:
            _clients[workflow.name, name] = workflow.port(name).connect()
        return _clients[workflow.name, name]


def forget_clients() -> None:
    """Drop the clients, as a forked child must: a connection is not to be shared between processes."""
    _clients.clear()


class LiveDoors:
    """Derived draws and live calls; what the control of the new system uses."""

    def __init__(self, workflow: Workflow, run: str, tick: int, step: str, started_at: dt.datetime | None) -> None:
        self._workflow = workflow
        self.draws: Draws = DerivedDraws(run, tick, step, started_at)

    def load(self) -> None:
        """There is nothing to read beforehand."""

    def call(self, port: str, method: str, request: dict[str, Any]) -> Json:
        """The answer of a live call, in plain JSON. Raises PortError."""
        answer = self._workflow.port(port).call(client_of(self._workflow, port), method, request)
        return normalise(answer, self._workflow.normalise)

    def keep(self) -> None:
        """Nothing: what was called is on no tape."""


class RecordingDoors:
    """Live doors of a control that serves: what an attempt calls is put on the tape when it has ended, not before.

    So a recovered attempt leaves the calls of whoever ended it, and the calls themselves wait for nothing.
    """

    def __init__(self, live: LiveDoors, store: TapeStore, tape: Mapping[str, Any], entry: Mapping[str, Any]) -> None:
        self._live, self._store, self._where, self._entry = live, store, tape, entry
        self._asked: Counter[str] = Counter()
        self._calls: list[TapeEntry] = []
        self._lock = threading.Lock()
        self.draws = live.draws

    def load(self) -> None:
        """There is nothing to read beforehand."""

    def call(self, port: str, method: str, request: dict[str, Any]) -> Json:
        """The answer of a live call, in plain JSON. Raises PortError."""
        # A copy: what the step does with its request afterwards is not what it asked.
        asked = PortCall(port=port, method=method, request=copy.deepcopy(request))
        begun = time.monotonic()
        try:
            answer = self._live.call(port, method, request)
        except PortError as failed:
            self._note(asked, begun, None, error_document(failed))
            raise
        self._note(asked, begun, copy.deepcopy(answer), None)
        return answer

    def keep(self) -> None:
        """Put the calls on the tape. It raises nothing: the system beside misses what is not there."""
        with self._lock:
            calls, self._calls = self._calls, []
        try:
            self._store.replace_all(calls)
        except Exception as error:  # noqa: BLE001 - the step's answer counts, whatever becomes of its tape
            log.warning("tape.unwritten", extra={**self._where, "step": self._entry["step"], "reason": str(error)})

    def _note(self, asked: PortCall, begun: float, answer: Json, error: dict[str, Any] | None) -> None:
        latency_ms = (time.monotonic() - begun) * 1000
        try:
            request_hash = asked.hash()
        except TickoverError as refused:
            log.warning("tape.unwritten", extra={**self._where, "port": asked.port, "reason": str(refused)})
            return
        with self._lock:
            occurrence = self._asked[request_hash]
            self._asked[request_hash] += 1
            self._calls.append(
                TapeEntry(
                    run=self._where["run"], tick=self._where["tick"], port=asked.port, method=asked.method,
                    request=asked.request, request_hash=request_hash, occurrence=occurrence, answer=answer,
                    error=error, latency_ms=latency_ms, recorded_by="async", **self._entry,
                )
            )  # fmt: skip


class TapeDoors:
    """Calls from the tape, latency included; what is missing is called live, recorded and flagged, or refused."""

    def __init__(
        self,
        live: LiveDoors,
        workflow: Workflow,
        store: TapeStore,
        tape: Mapping[str, Any],
        step: str,
        attempt: int,
        execution_id: str,
        draws: Draws,
    ) -> None:
        self._live, self._workflow, self._store, self._where = live, workflow, store, tape
        self._step, self._attempt, self._execution_id = step, attempt, execution_id
        self._tape: Tape | None = None
        self.draws = draws

    def load(self) -> Tape:
        """The step's tape, read when it is first asked for."""
        if self._tape is None:
            entries = self._store.entries(self._where["run"], self._where["tick"], self._step)
            self._tape = Tape(entries, attempt=self._attempt)
        return self._tape

    def call(self, port: str, method: str, request: dict[str, Any]) -> Json:
        """The recorded answer, or that of a live call. Raises PortError, TapeMiss."""
        entry, request_hash, occurrence = self.load().find(PortCall(port=port, method=method, request=request))
        if entry is not None:
            # As a recorded error does, a latency belongs to the attempt that met it: an answer that came too late
            # for the first attempt would else come too late for every retry.
            if self._where.get("latency", True) and entry.attempt == self._attempt:
                time.sleep(entry.latency_ms / 1000)
            return entry.play()
        if self._where.get("on_miss") == "fail" or method in self._workflow.port(port).writes:
            raise TapeMiss(port, method)
        begun = time.monotonic()
        try:
            answer = self._live.call(port, method, request)
        except PortError as failed:
            self._record(port, method, request, request_hash, occurrence, begun, None, error_document(failed))
            raise
        # What is cut off by anything else (a step's limit, say) was neither answered nor refused: nothing to replay.
        self._record(port, method, request, request_hash, occurrence, begun, answer, None)
        return answer

    def keep(self) -> None:
        """Nothing: each call is on the tape when it has ended."""

    def _record(
        self,
        port: str,
        method: str,
        request: dict[str, Any],
        request_hash: str,
        occurrence: int,
        begun: float,
        answer: Json,
        error: dict[str, Any] | None,
    ) -> None:
        self._store.record(
            TapeEntry(
                run=self._where["run"],
                tick=self._where["tick"],
                step=self._step,
                port=port,
                method=method,
                request=request,
                request_hash=request_hash,
                occurrence=occurrence,
                attempt=self._attempt,
                answer=answer,
                error=error,
                latency_ms=(time.monotonic() - begun) * 1000,
                recorded_by="async",
                execution_id=self._execution_id,
                missed=not self._where.get("records", False),
            )
        )


def open_doors(
    harness: Mapping[str, Any] | None,
    workflow: Workflow,
    *,
    run: str,
    tick: int,
    step: str,
    attempt: int,
    execution_id: str,
    started_at: dt.datetime | None,
    store: TapeStore | None = None,
) -> LiveDoors | RecordingDoors | TapeDoors:
    """The doors of one attempt: live ones without a harness, else what the harness says.

    `store` holds the tape; None takes the one in PostgreSQL.
    """
    harness = harness or {}
    live = LiveDoors(workflow, run, tick, step, started_at)
    draws: Draws = live.draws
    if harness.get("draws") is not None:
        draws = RecordedDraws(harness["draws"].get(step, {}), DerivedDraws(run, tick, step, started_at))
    tape = harness.get("tape")
    if tape is None:
        live.draws = draws
        return live
    if store is None:
        from tickover.ground.tape_store import PostgresTapeStore

        store = PostgresTapeStore.shared()
    if tape.get("serves"):
        return RecordingDoors(live, store, tape, {"step": step, "attempt": attempt, "execution_id": execution_id})
    return TapeDoors(live, workflow, store, tape, step, attempt, execution_id, draws)
