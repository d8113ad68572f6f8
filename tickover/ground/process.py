"""Child processes that do not outlive their parent and are ended by their own group."""

from __future__ import annotations

import ctypes
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tickover.errors import InfrastructureError

_LINUX = sys.platform == "linux"
_PR_SET_PDEATHSIG = 1

# What stands between this process and the program: it becomes the given user, asks the kernel to end it with its
# parent, and turns into the program. Done in a program of its own because code between fork and exec is not safe in
# a process with threads, and before the change of user because that user may not reach this interpreter.
_LAUNCH = """
import ctypes, os, sys
parent, death_signal, uid, gid = map(int, sys.argv[1:5])
if uid >= 0:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
ctypes.CDLL(None).prctl(1, death_signal)
if os.getppid() != parent:
    sys.exit("the parent has ended")
os.execv(sys.argv[5], sys.argv[5:])
"""


def end_with_parent(signal_number: int = signal.SIGTERM) -> None:
    """Have this process get the signal when its parent ends, also when that is killed (Linux; elsewhere no effect).

    The kernel takes the *thread* that forked for the parent: use ChildProcess to start a child from any thread.
    """
    if _LINUX:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal_number)


class _Starter:
    """The one thread that forks, which lives as long as the process: a child's death signal comes when the thread
    that forked it ends, so a short-lived thread must not."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="tickover-starter", daemon=True).start()

    def _work(self) -> None:
        while True:
            job, future = self._jobs.get()
            try:
                future.set_result(job())
            except BaseException as error:  # noqa: BLE001 - it is raised where the job was called
                future.set_exception(error)

    def call(self, job: Callable[[], Any]) -> Any:
        """The job's result. Raises what it raised."""
        future: Future[Any] = Future()
        self._jobs.put((job, future))
        return future.result()


_starter: _Starter | None = None
_starter_lock = threading.Lock()


def _forget_starter() -> None:
    # A forked child has none of its parent's threads.
    global _starter, _starter_lock
    _starter, _starter_lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_starter)


def _in_starter(job: Callable[[], Any]) -> Any:
    global _starter
    with _starter_lock:
        _starter = _starter or _Starter()
    return _starter.call(job)


class ChildProcess:
    """A child in a process group of its own, its output in a log file. Not thread-safe.

    If this process ends in any way, the child gets `death_signal` (Linux). As a context manager it stops the child.
    """

    def __init__(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None,
        log_path: Path | None = None, death_signal: int = signal.SIGTERM, user: tuple[int, int] | None = None,
        shows_output: bool = False,
    ) -> None:  # fmt: skip
        """Start it.

        argv: program and arguments. env: added to this process's environment. cwd: None for this process's.
        log_path: gets its output; None drops it. death_signal: what it gets when this process ends. user: uid and gid
        to run as; None for this process's (others need root). shows_output: it writes where this process does.
        Raises InfrastructureError if there is no such program.
        """
        program = shutil.which(argv[0])
        if program is None:
            raise InfrastructureError(f"cannot start {argv[0]}: there is no such program; install it or mend PATH")
        self.argv, self.log_path = [program, *argv[1:]], log_path
        self._ended = False
        uid, gid = user or (-1, -1)
        launch = [sys.executable, "-I", "-S", "-c", _LAUNCH, *map(str, (os.getpid(), int(death_signal), uid, gid))]
        identity: dict[str, Any] = {"user": uid, "group": gid, "extra_groups": []} if user and not _LINUX else {}
        output = _open_log(log_path)
        # What others wrote before is not this child's.
        self._log_begins = os.fstat(output).st_size if output >= 0 else 0
        shown = None if shows_output else output
        try:
            self._popen: subprocess.Popen[bytes] = _in_starter(
                lambda: subprocess.Popen(
                    [*launch, *self.argv] if _LINUX else self.argv, env={**os.environ, **(env or {})}, cwd=cwd,
                    stdin=subprocess.DEVNULL, stdout=shown, stderr=shown, start_new_session=True, **identity,
                )
            )  # fmt: skip
        except OSError as error:
            raise InfrastructureError(f"cannot start {program}: {error.strerror}") from error
        finally:
            if output >= 0:
                os.close(output)

    @property
    def pid(self) -> int:
        """Its process id, which is also its group's."""
        return self._popen.pid

    def send(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        self._popen.send_signal(number)

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Its exit code once it has ended (negative: the signal that ended it); None if it has not within the
        timeout."""
        try:
            return int(self._popen.wait(timeout_s))
        except subprocess.TimeoutExpired:
            return None

    def alive(self) -> bool:
        """Whether it still runs."""
        return self._popen.poll() is None

    def wait_ready(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Wait until `ready()`. Raises InfrastructureError with the end of its log if it ends or takes too long."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            if not self.alive():
                raise InfrastructureError(f"{self.argv[0]} ended with {self._popen.returncode}: {self.log_tail()}")
            if time.monotonic() > deadline:
                raise InfrastructureError(f"{self.argv[0]} was not ready within {timeout_s:g} s: {self.log_tail()}")
            time.sleep(0.02)

    def log_tail(self, size_bytes: int = 2000) -> str:
        """The end of what it wrote to its log."""
        if self.log_path is None or not self.log_path.exists():
            return "it left no log"
        with self.log_path.open("rb") as log:
            begins = max(self._log_begins, log.seek(0, os.SEEK_END) - size_bytes)
            log.seek(begins)
            return log.read().decode("utf-8", "replace").strip() or "it wrote nothing"

    def stop(self, timeout_s: float = 10.0, first: int = signal.SIGTERM) -> int:
        """Ask it to end, kill its group if it has not within the timeout, and return its exit code."""
        if self.alive():
            self._popen.send_signal(first)
            try:
                self._popen.wait(timeout_s)
            except subprocess.TimeoutExpired:
                pass
        self.kill()
        return int(self._popen.returncode)

    def kill(self) -> None:
        """Kill its whole group at once. A second call does nothing."""
        if self._ended:
            return
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            # Nobody of the group is left (macOS says "permission" when only zombies are).
            pass
        self._popen.wait()
        self._ended = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _open_log(log_path: Path | None) -> int:
    if log_path is None:
        return subprocess.DEVNULL
    try:
        log_path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InfrastructureError(f"the log {log_path} cannot be written: {error.strerror}") from error
