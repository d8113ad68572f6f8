"""The storm's parties, as the storm sees them: started, killed, paused, and made to stop at a statement."""

from __future__ import annotations

import contextlib
import itertools
import json
import mmap
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from shadow.ledger import Note, Notebook
from tests.chaos.nursery import FUSE, fuse
from tests.chaos.storm_job import RUN
from tests.conftest import ROOT


class Party:
    """A process of the storm. Signals go through a descriptor of it, never to another of the same number."""

    def __init__(self, kind: str, pid: int, path: Path) -> None:
        self.kind, self.pid = kind, pid
        try:
            self._descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            # It was done, or struck, before it was looked at; its number may be another's by now.
            self._descriptor = -1
        with path.open("r+b") as file:
            self._fuse = mmap.mmap(file.fileno(), FUSE.size)

    def alive(self) -> bool:
        """Whether it has not ended."""
        if self._descriptor >= 0:
            ended = select.poll()
            ended.register(self._descriptor, select.POLLIN)
            if ended.poll(0):
                self._fuse.close()
                os.close(self._descriptor)
                self._descriptor = -1
        return self._descriptor >= 0

    def send(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, number)

    def arm(self, boundaries: int, number: int, aim: str = "") -> None:
        """Have it give itself a signal at a boundary: the so-and-so-many-th from now with `aim` in its name; 0
        disarms."""
        if self.alive():
            self._fuse[:] = fuse(boundaries, number, aim)

    def stands(self) -> bool:
        """Whether it is stopped."""
        try:
            return psutil.Process(self.pid).status() == psutil.STATUS_STOPPED
        except psutil.NoSuchProcess:
            return False

    def children(self) -> list[psutil.Process]:
        """The old system's processes that it has started."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return [child for child in psutil.Process(self.pid).children() if "tickover.host" in _line(child)]
        return []


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


class Crew:
    """Starts parties, and ends what it started when it is closed."""

    def __init__(self, scratch: Path, environment: Mapping[str, str], defect: str | None = None) -> None:
        self.scratch, self.defect = scratch, defect
        self.home, self.boundaries = scratch / "home", scratch / "boundaries"
        self.notebook = Notebook(scratch / "notebook")
        self.parties: list[Party] = []
        self._numbers = itertools.count()
        self._log = (scratch / "nursery.log").open("wb")
        self._nursery = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.nursery"], cwd=ROOT, env=dict(environment), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self._log, text=True, start_new_session=True,
        )  # fmt: skip
        assert self._answer() == "ready"

    def start(
        self, kind: str, *arguments: str, boundaries: int = 0, number: int = 0, aim: str = "", **more: Any
    ) -> Party:  # fmt: skip
        """A party that runs a command (`arguments`), or what its kind says.

        boundaries, number, aim: at which boundary it is to give itself which signal, as in `Party.arm`; 0 for never.
        """
        path = self.scratch / f"{kind}-{next(self._numbers)}.fuse"
        path.write_bytes(fuse(boundaries, number, aim))
        request = {
            "kind": kind, "arguments": arguments, "fuse": str(path), "boundaries": str(self.boundaries),
            "log": str(self.scratch / f"{kind}.log"), "defect": self.defect, **more,
        }  # fmt: skip
        assert self._nursery.stdin is not None
        self._nursery.stdin.write(json.dumps(request) + "\n")
        self._nursery.stdin.flush()
        party = Party(kind, int(self._answer()), path)
        self.parties = [each for each in self.parties if each.alive()] + [party]
        return party

    def told(self) -> list[Note]:
        """What the loops have said of ticks that are over."""
        said = [re.match(r"tick (\d+): (\w+) (\w+) in", line) for line in self._said("loop")]
        return [
            Note(kind="told", run=RUN, tick=int(each[1]), owner=each[2], outcome=each[3]) for each in said if each
        ]  # fmt: skip

    def _said(self, kind: str) -> list[str]:
        log = self.scratch / f"{kind}.log"
        return log.read_text().splitlines() if log.exists() else []

    def _answer(self) -> str:
        assert self._nursery.stdout is not None
        line = self._nursery.stdout.readline().strip()
        assert line, (self.scratch / "nursery.log").read_text()
        return line

    def old_systems(self) -> Iterator[psutil.Process]:
        """Each process of the old system that works in the storm's home, orphans among them."""
        for process in psutil.process_iter():
            line = _line(process)
            if "tickover.host" in line and f"--home {self.home}" in line:
                yield process

    def close(self) -> None:
        """End all of them, whatever state they are in."""
        for party in self.parties:
            party.send(signal.SIGKILL)
        for process in self.old_systems():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        assert self._nursery.stdin is not None
        self._nursery.stdin.close()
        try:
            self._nursery.wait(10)
        finally:
            self._nursery.kill()
            self._log.close()
            if self._nursery.stdout is not None:
                self._nursery.stdout.close()
