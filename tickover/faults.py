"""Fault points: failures on purpose, beside the code they break. They do nothing unless armed.

The harness document of an execution arms them (in the old system's process: the request for a tick), and only for an
execution with purpose `drill`. What strikes, and when each step was entered and committed, is appended to a ledger: a
file that outlives whoever dies here. The drill's runner reads it, and does what cannot be done from within: it wakes
a paused process, and restarts servers and runners.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tickover.errors import ContractError, PortError
from tickover.execution import Purpose

# Raised or slept in the step, when it is entered.
AT_ENTRY = frozenset({"transient_error", "permanent_error", "hang", "slow_step", "database_restart"})
# Struck by a timer while the step runs.
MEANWHILE = frozenset({"killed_process", "paused_process", "killed_runner"})
AT_HINT = frozenset({"broker_restart", "duplicated_hint", "lost_hint"})
AT_CALL = frozenset({"model_outage", "malformed_answer"})
# How long a step waits for whoever restarts a server, in seconds of real time, and the pause between two looks.
HOLD_LIMIT_S, LOOK_S = 30.0, 0.005
# How long a signal to its own process may take until it stops each thread, in seconds.
STOP_S = 0.5


class ArmedForControl(ContractError):
    """A fault was armed for an execution whose answer counts."""


class InjectedFault(RuntimeError):
    """A failure on purpose."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One armed fault, or (kind "") the ledger alone; immutable.

    step: where it strikes. folder: holds the ledger, and what says that it has struck or may go on. delay_s: from the
    step's entry to the strike. length_s: of a hang, a slow step, an outage; all in seconds of real time. at_commit:
    strike when the step's work is done and nothing is committed. quiet: a block in which this module's own files are
    not observed.
    """

    kind: str
    step: str
    folder: str
    delay_s: float = 0.0
    length_s: float = 0.0
    at_commit: bool = False
    quiet: Callable[[], AbstractContextManager[object]] = field(default=contextlib.nullcontext, compare=False)

    def note(self, event: str, **more: Any) -> None:
        """Append an event to the ledger."""
        line = json.dumps({"at": time.time(), "pid": os.getpid(), "event": event, **more}, default=str) + "\n"
        with self.quiet():
            ledger = os.open(f"{self.folder}/ledger.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(ledger, line.encode())
            finally:
                os.close(ledger)

    def _takes(self) -> bool:
        """Whether this is the one time that the fault strikes; it is noted before anything is broken."""
        with self.quiet():
            try:
                os.close(os.open(f"{self.folder}/struck", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
            except FileExistsError:
                return False
        self.note("struck", kind=self.kind, step=self.step)
        return True

    def _since_strike_s(self) -> float | None:
        with self.quiet():
            try:
                return time.time() - os.stat(f"{self.folder}/struck").st_mtime
            except FileNotFoundError:
                return None

    def _hold(self) -> None:
        """Wait until whoever runs the drill says `go_on`."""
        deadline = time.monotonic() + HOLD_LIMIT_S
        while time.monotonic() < deadline:
            with self.quiet():
                if os.path.exists(f"{self.folder}/go_on"):
                    return
            time.sleep(LOOK_S)  # the pace of looking

    # The fault points

    @contextlib.contextmanager
    def around(self, step: str, attempt: int = 1, *, commits: bool = False) -> Iterator[None]:
        """Around the work of a step. commits: `committing` follows. Raises InjectedFault."""
        self.note("entered", step=step, attempt=attempt)
        if step != self.step:
            yield
        elif self.kind in AT_ENTRY:
            self._at_entry()
            yield
        elif self.kind == "killed_runner" and commits:
            # The new system's runner is struck as it starts the tick: a worker's parent is none.
            yield
        elif self.kind in MEANWHILE and self.at_commit:
            yield
            if not commits:
                self._meanwhile()
        elif self.kind in MEANWHILE:
            timer = threading.Timer(self.delay_s, self._meanwhile)
            timer.daemon = True
            timer.start()
            try:
                yield
            finally:
                timer.cancel()
            # It ended sooner than the fault was to come: what it did is not committed yet.
            self._meanwhile()
        else:
            yield

    def _at_entry(self) -> None:
        if self.kind == "permanent_error":
            if not self._takes():
                self.note("struck", kind=self.kind, step=self.step)
            raise InjectedFault("a permanent error, on purpose")
        if self._since_strike_s() is not None:
            return
        time.sleep(self.delay_s)  # the moment at which the fault comes
        if not self._takes():
            return
        if self.kind == "transient_error":
            raise InjectedFault("an error that comes once, on purpose")
        if self.kind == "database_restart":
            self._hold()
        else:
            time.sleep(self.length_s)  # the hang itself

    def _meanwhile(self) -> None:
        if not self._takes():
            return
        if self.kind == "killed_runner":
            os.kill(os.getppid(), signal.SIGKILL)
        else:
            os.kill(os.getpid(), signal.SIGSTOP if self.kind == "paused_process" else signal.SIGKILL)
            # Another thread may be the one that the signal stops first: this one must not commit meanwhile.
            time.sleep(STOP_S)

    def committing(self, step: str) -> None:
        """Between a step's work and its commit."""
        if self.at_commit and step == self.step and self.kind in ("killed_process", "paused_process"):
            self._meanwhile()

    def calling(self, step: str) -> bool:
        """Before a port call: whether its answer is to be broken. Raises ConnectionRefusedError in an outage."""
        if self.kind == "malformed_answer":
            return step == self.step and self._takes()
        if self.kind == "model_outage":
            if step == self.step:
                self._takes()
            since_s = self._since_strike_s()
            if since_s is not None and since_s < self.length_s:
                _refused()
        return False

    def hints(self, step: str) -> int:
        """How often a hint for the step is to be sent."""
        if self.kind not in AT_HINT or step != self.step or not self._takes():
            return 1
        if self.kind == "broker_restart":
            self._hold()
            return 1
        return 2 if self.kind == "duplicated_hint" else 0

    def started(self) -> None:
        """After an execution was started and before anyone is told of it."""
        self.note("started")
        if self.kind == "killed_runner" and self._takes():
            os.kill(os.getpid(), signal.SIGKILL)


def armed(harness: Mapping[str, Any] | None, execution_id: str, **more: Any) -> Fault | None:
    """The fault of a harness document; None where it arms none. Raises ArmedForControl if the execution is no
    drill."""
    document = (harness or {}).get("faults")
    if document is None:
        return None
    if execution_id.split("/")[3:4] != [Purpose.DRILL]:
        raise ArmedForControl(
            f"a fault was armed for {execution_id or 'a tick without a name'}, which is no drill; "
            "`tickover drill` injects faults, on copies"
        )
    return Fault(**document, **more)


def broken(text: str) -> str:
    """An answer that broke off half way."""
    return text[: len(text) // 2]


def decode_error(text: str) -> PortError:
    """What a client makes of an answer that broke off."""
    try:
        json.loads(broken(text))
    except ValueError as error:
        return PortError("decode", str(error))
    return PortError("decode", "the answer broke off")


def read_ledger(folder: Path) -> list[dict[str, Any]]:
    """The events of a ledger in the order in which they were appended; empty without one. A line that a process left
    unfinished is left out."""
    try:
        lines = (folder / "ledger.jsonl").read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines[:-1]]


def _refused() -> None:
    """A real refusal: a connection to a port at which nobody listens. Raises ConnectionRefusedError."""
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        address = free.getsockname()
    with contextlib.closing(socket.create_connection(address, timeout=1)):
        raise ConnectionRefusedError("on purpose")
