"""The legacy process, as its parent sees it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tickover.boundary.home import take_home
from tickover.boundary.observation import Late, LegacyObservation, LegacyRequest, Outcome, RoundTrip, StepObservation
from tickover.canonical import Json
from tickover.errors import InfrastructureError, TickoverError
from tickover.tape import TapeEntry

# How long the process may take to import the user's code and answer, in seconds.
_START_LIMIT_S = 60.0

# How long a start that was made ahead may hold up who needs the process at last, in seconds since it began; twice as
# long as the last start took, if that is more.
_AHEAD_LIMIT_S = 2.0

# How often who waits for such a start looks whether it hangs, in seconds.
_LOOK_S = 0.05

# How long another process that works in the home is waited for, in seconds: one whose parent was killed ends at once.
_HOME_LIMIT_S = 10.0

# How long a process whose pipe was closed may take to end, in seconds.
_END_LIMIT_S = 5.0


class LegacyProcessError(TickoverError):
    """The legacy process answered with an error: `name` is the error's type."""

    def __init__(self, command: str, name: str, message: str, log: Path) -> None:
        self.command, self.name = command, name
        super().__init__(f"legacy process, {command}: {name}: {message}; see {log}")


class LegacyProcessLost(InfrastructureError):
    """The legacy process died, or did not answer in time."""


class LegacyProcess:
    """A process of its own that runs ticks of a workload's legacy, one at a time, in `home`.

    workload: `module:name` of the Workflow. home: legacy's directory, which becomes its working directory; made if
    it is missing. env: environment variables on top of this process's, and of `legacy_env`. time_scale, model_url:
    given to the workflow's `legacy_env`. project: directories put first on its module path, the working directory by
    default. log: file for its standard output and error, `<home>.log` by default. exclusive: the process holds its
    home for as long as it lives, and one is started only when no other holds it; see `tickover.boundary.home`.

    It is started by the first command, and again by the next one after it died; it ends when this object is closed or
    this process ends. `kill` may be called from any thread.
    """

    def __init__(
        self,
        workload: str,
        home: Path | str,
        env: Mapping[str, str] | None = None,
        *,
        time_scale: float = 1.0,
        model_url: str | None = None,
        project: Sequence[Path | str] | None = None,
        log: Path | str | None = None,
        exclusive: bool = False,
    ) -> None:
        self.workload, self.home = workload, Path(home).resolve()
        self.exclusive = exclusive
        self.log = Path(log) if log is not None else self.home.with_name(self.home.name + ".log")
        self.starts = 0
        self.observed: tuple[str, ...] = ()
        self._env, self._time_scale, self._model_url = dict(env or {}), time_scale, model_url
        self._project = [str(Path(path).resolve()) for path in (project if project is not None else [Path.cwd()])]
        self._process: subprocess.Popen[bytes] | None = None
        self._to = self._from = -1
        self._buffer = bytearray()
        self._news: list[dict[str, Any]] = []
        self._ran = self._killed = False
        self._lock = threading.RLock()
        # How long the last start took; since when one is made ahead, None while none is.
        self._start_s = 0.0
        self._ahead_since_s: float | None = None

    @property
    def pid(self) -> int | None:
        """The process id, and that of its process group; None while no process runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Start the process if none runs. Raises LegacyProcessError if the workload cannot be loaded, HomeBusy."""
        with self._alone():
            if self.pid is not None:
                return
            self._forget()
            held = [take_home(self.home, _HOME_LIMIT_S)] if self.exclusive else []
            self.home.mkdir(parents=True, exist_ok=True)
            self.log.parent.mkdir(parents=True, exist_ok=True)
            child_reads, self._to = os.pipe()
            self._from, child_writes = os.pipe()
            command = [sys.executable, "-P", "-m", "tickover.host"]
            command += ["--read-fd", str(child_reads), "--write-fd", str(child_writes)]
            command += ["--workload", self.workload, "--home", str(self.home), "--time-scale", str(self._time_scale)]
            command += [part for path in self._project for part in ("--project", path)]
            command += ["--model-url", self._model_url] if self._model_url else []
            begun_s = time.monotonic()
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    command,
                    pass_fds=(child_reads, child_writes, *held),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, "PYTHONPATH": _module_path(), **self._env},
                    start_new_session=True,
                )
            for descriptor in (child_reads, child_writes, *held):
                os.close(descriptor)
            self.starts += 1
            self._ran = False
            try:
                self.observed = tuple(self._exchange("hello", {}, _START_LIMIT_S)["observed"])
            except LegacyProcessError:
                self._end()
                raise
            self._start_s = time.monotonic() - begun_s

    def run_tick(self, request: LegacyRequest, *, timeout_s: float | None = None) -> LegacyObservation:
        """What legacy did with the tick. A process that dies meanwhile, or takes longer than `timeout_s` (then it is
        killed; None waits for ever), makes the outcome `lost`, with the calls and steps that had ended by then; the
        next command starts another. One that was found dead before it began the tick is replaced, once: nothing of
        the tick had happened.

        Raises LegacyProcessError where the tick could not be begun.
        """
        with self._alone():
            self._killed = replaced = False
            begun_s = time.monotonic()
            while True:
                self.start()
                self._ran = True
                pid = self.pid
                try:
                    return LegacyObservation.from_json(self._exchange("run_tick", request.to_json(), timeout_s))
                except LegacyProcessLost as lost:
                    begun = any(news.get("begins") == request.tick for news in self._news)
                    if begun or replaced or self._killed:
                        return self._lost_tick(request, lost, pid, time.monotonic() - begun_s)
                    replaced = True

    def _lost_tick(
        self, request: LegacyRequest, lost: LegacyProcessLost, pid: int | None, lasted_s: float
    ) -> LegacyObservation:
        """What is known of a tick whose process is gone."""
        return LegacyObservation(
            run=request.run,
            tick=request.tick,
            mode=request.mode,
            outcome=Outcome.LOST,
            error=str(lost),
            steps={
                news["step"]: StepObservation.from_json(news["observation"])
                for news in self._news
                if "step" in news and (news["run"], news["tick"]) == (request.run, request.tick)
            },
            calls=tuple(
                entry
                for entry in (TapeEntry.from_json(news["call"]) for news in self._news if "call" in news)
                if (entry.run, entry.tick) == (request.run, request.tick)
            ),
            duration_ms=lasted_s * 1000,
            observed=self.observed,
            pid=pid,
        )

    def read_state(self) -> Json:
        """Legacy's state document. Raises LegacyProcessError, LegacyProcessLost."""
        return self._ask("read_state", {})

    def write_state(self, document: Json) -> None:
        """Replace legacy's state; a process that has run a tick is ended, for it holds the old state in memory."""
        with self._alone():
            self._ask("write_state", {"state": document})
            if self._ran:
                self._end()

    def check_round_trip(self) -> RoundTrip:
        """Whether legacy's present state survives `write_state` and `read_state`, tried in a directory elsewhere."""
        return RoundTrip(**self._ask("check_round_trip", {}))

    def late_effects(self) -> list[Late]:
        """What ticks that returned have done since this was last asked; what a process did before it died is lost."""
        with self._alone():
            if self.pid is None:
                return []
            try:
                return [Late.from_json(late) for late in self._exchange("late_effects", {}, _START_LIMIT_S)]
            except LegacyProcessLost:
                return []

    def refresh(self) -> None:
        """Have a process that has run no tick: the one that is there if it has not, else another, started now, so
        that nobody waits for its start later. Where it hangs, whoever needs the process meanwhile cuts it off and
        starts another. Raises what `start` raises."""
        with self._alone():
            self._ahead_since_s = time.monotonic()
            try:
                if self._ran:
                    self._end()
                self.start()
            finally:
                self._ahead_since_s = None

    def kill(self) -> None:
        """Kill the process group at once, as a crash would. Safe at any time, from any thread."""
        self._killed = True
        process = self._process
        if process is not None and process.poll() is None:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                return

    def close(self) -> None:
        """End the process, and abandon whatever still runs in it."""
        with self._alone(patient=False):
            self._end()

    def __enter__(self) -> LegacyProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _alone(self, *, patient: bool = True) -> Iterator[None]:
        """Have the process to oneself. A start that was made ahead is cut off: if it takes too long, or at once if
        one is not patient."""
        while not self._lock.acquire(timeout=_LOOK_S):
            since_s, limit_s = self._ahead_since_s, max(_AHEAD_LIMIT_S, 2 * self._start_s)
            if since_s is not None and (not patient or time.monotonic() > since_s + limit_s):
                self.kill()
        try:
            yield
        finally:
            self._lock.release()

    def _ask(self, command: str, arguments: dict[str, Any]) -> Any:
        with self._alone():
            self.start()
            return self._exchange(command, arguments, _START_LIMIT_S)

    def _exchange(self, command: str, arguments: dict[str, Any], timeout_s: float | None) -> Any:
        line = json.dumps({"command": command, "arguments": arguments}).encode() + b"\n"
        self._news = []
        try:
            with memoryview(line) as view:
                sent = 0
                while sent < len(view):
                    sent += os.write(self._to, view[sent:])
        except BrokenPipeError:
            raise self._lost(command, "died") from None
        while True:
            answer = json.loads(self._line(command, timeout_s))
            if "ok" in answer or "error" in answer:
                break
            self._news.append(answer)
        if "error" in answer:
            raise LegacyProcessError(command, answer["error"]["type"], answer["error"]["message"], self.log)
        return answer["ok"]

    def _line(self, command: str, timeout_s: float | None) -> bytes:
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        while (end := self._buffer.find(b"\n")) < 0:
            left_s = None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
            if not select.select([self._from], [], [], left_s)[0]:
                self.kill()
                raise self._lost(command, f"did not answer within {timeout_s} s, and was killed")
            data = os.read(self._from, 1 << 20)
            if not data:
                raise self._lost(command, "died")
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def _lost(self, command: str, what: str) -> LegacyProcessLost:
        process, status = self._process, None
        if process is not None:
            try:
                status = process.wait(_END_LIMIT_S)
            except subprocess.TimeoutExpired:
                self.kill()
                status = process.wait()
            self._kill_group(process.pid)
        self._forget()
        return LegacyProcessLost(f"the legacy process {what} during {command} (status {status}); see {self.log}")

    def _end(self) -> None:
        if self._to >= 0:
            os.close(self._to)
            self._to = -1
        process = self._process
        if process is not None:
            try:
                process.wait(_END_LIMIT_S)
            except subprocess.TimeoutExpired:
                self.kill()
                process.wait()
            self._kill_group(process.pid)
        self._forget()

    def _forget(self) -> None:
        for descriptor in (self._to, self._from):
            if descriptor >= 0:
                os.close(descriptor)
        self._to = self._from = -1
        self._buffer.clear()
        self._process = None

    @staticmethod
    def _kill_group(pid: int) -> None:
        """End processes that legacy started and left in its group."""
        try:
            os.killpg(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return


def _module_path() -> str:
    """PYTHONPATH for the child: what this process was given, made absolute, then where this package is, unless it is
    installed among the libraries, which must not come before the standard library."""
    own = str(Path(__file__).resolve().parent.parent.parent)
    path = [str(Path(path).resolve()) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if own not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        path.append(own)
    return os.pathsep.join(dict.fromkeys(path))
