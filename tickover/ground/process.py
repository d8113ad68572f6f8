"""Child processes that do not outlive their parent and are ended by their own group."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tickover.errors import InfrastructureError

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def end_with_parent(signal_number: int = signal.SIGTERM) -> None:
    """Have this process end when its parent does, also when that is killed (Linux; elsewhere without effect)."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal_number)


class ChildProcess:
    """A child in a process group of its own, its output in a log file. Not thread-safe."""

    def __init__(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None,
        log_path: Path | None = None, death_signal: int = signal.SIGTERM, user: str | None = None,
    ) -> None:  # fmt: skip
        """Start it. `env` is added to this process's environment; None for `log_path` drops the output."""
        self.argv, self.log_path = list(argv), log_path
        output: int = subprocess.DEVNULL
        if log_path is not None:
            log_path.parent.mkdir(parents=True, exist_ok=True)
            output = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        parent = os.getpid()

        def prepare() -> None:
            end_with_parent(death_signal)
            if os.getppid() != parent:
                os._exit(1)

        try:
            self._popen = subprocess.Popen(
                self.argv, env={**os.environ, **(env or {})}, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output,
                stderr=output, start_new_session=True, user=user, preexec_fn=prepare,
            )  # fmt: skip
        finally:
            if output >= 0:
                os.close(output)

    @property
    def pid(self) -> int:
        """Its process id, which is also its group's."""
        return self._popen.pid

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
        """The end of its log."""
        if self.log_path is None or not self.log_path.exists():
            return "it left no log"
        return self.log_path.read_bytes()[-size_bytes:].decode("utf-8", "replace").strip() or "its log is empty"

    def stop(self, timeout_s: float = 10.0, first: int = signal.SIGTERM) -> int:
        """Ask it to end, kill its group if it has not within the timeout, and return its exit code."""
        if self.alive():
            self._popen.send_signal(first)
            try:
                self._popen.wait(timeout_s)
            except subprocess.TimeoutExpired:
                pass
        self.kill()
        return self._popen.returncode

    def kill(self) -> None:
        """Kill its whole group at once."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self._popen.wait()
