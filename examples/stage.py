"""What the demonstration stands on: a data directory of its own, commands that are shown and run, and processes that
end with it."""

from __future__ import annotations

import fcntl
import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
# What a user has set for real work must not reach the demonstration: it moves a route.
_FOREIGN = ("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "OLLAMA_HOST")
_ENDED = re.compile(r"tick (\d+): (\w+) (\w+) in ")


class StoryBroke(Exception):
    """Something that the story says did not come about."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """A tick of the loop; immutable."""

    tick: int
    owner: str
    status: str


class Stage:
    """Runs Tickover's commands in a data directory of its own."""

    def __init__(self, data_dir: Path, time_scale: float) -> None:
        self.data_dir = data_dir
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TICKOVER_")}
        self.environment = {name: value for name, value in kept.items() if name not in _FOREIGN} | {
            "TICKOVER_DATA_DIR": str(data_dir), "TICKOVER_TIME_SCALE": str(time_scale), "PYTHONPATH": str(ROOT),
        }  # fmt: skip

    def run(self, *arguments: str, codes: tuple[int, ...] = (0,), shows: bool = True) -> str:
        """The standard output of a command; its messages go where ours do. Raises StoryBroke for another exit code
        than these."""
        if shows:
            print(f"\n$ {_typed(arguments)}", flush=True)
        done = subprocess.run(
            [sys.executable, str(ROOT / "cli.py"), *arguments], stdout=subprocess.PIPE, text=True, check=False,
            cwd=self.data_dir, env=self.environment,
        )  # fmt: skip
        if done.returncode not in codes:
            print(done.stdout)
            raise StoryBroke(f"`{' '.join(arguments)}` ended with {done.returncode}, not {codes}")
        return done.stdout

    @contextmanager
    def started(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """A command under way, whose standard output is read by whoever asked for it; ended as Ctrl-C ends it."""
        print(f"\n$ {_typed(arguments)} &", flush=True)
        process = subprocess.Popen(
            [sys.executable, "-u", str(ROOT / "cli.py"), *arguments], stdout=subprocess.PIPE, text=True,
            cwd=self.data_dir, env=self.environment, start_new_session=True,
            stderr=(self.data_dir / f"{arguments[0]}.log").open("a"),
        )  # fmt: skip
        try:
            yield process
        finally:
            for signal_number in (signal.SIGINT, signal.SIGINT, signal.SIGKILL):
                with suppress(ProcessLookupError):
                    process.send_signal(signal_number)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(20)
                    break


class LoopReader:
    """Reads the ticks that a loop tells of, as they come, and shows them."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.ticks: list[Ended] = []
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(process,), daemon=True).start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._lines.put(line)

    def until(self, owner: str, count: int, timeout_s: float = 90) -> None:
        """Wait until so many further ticks of a system have ended. Raises StoryBroke if they do not."""
        deadline = time.monotonic() + timeout_s
        while count:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise StoryBroke(f"the loop ended no tick of {owner} for {timeout_s:g} s") from None
            print(f"    {line}", end="", flush=True)
            if found := _ENDED.match(line):
                self.ticks.append(Ended(tick=int(found[1]), owner=found[2], status=found[3]))
                count -= found[2] == owner


def _typed(arguments: Sequence[str]) -> str:
    return shlex.join(["python", "cli.py", *(argument.removeprefix(f"{ROOT}/") for argument in arguments)])


def kill_tree_below(pid: int) -> int:
    """Kill -9 all processes that a process has started, and say how many there were."""
    found = psutil.Process(pid).children(recursive=True)
    for process in found:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return len(found)


@contextmanager
def data_directory() -> Iterator[Path]:
    """An empty data directory for one demonstration. The last one's stays, to be looked at; a second one at the same
    time has one that goes with it."""
    home = ROOT / ".tickover"
    home.mkdir(exist_ok=True)
    with (home / "demo.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            chosen, stays = home / f"demo-{os.getpid()}", False
        else:
            chosen, stays = home / "demo", True
        shutil.rmtree(chosen, ignore_errors=True)
        chosen.mkdir()
        try:
            yield chosen
        finally:
            if not stays:
                shutil.rmtree(chosen, ignore_errors=True)
