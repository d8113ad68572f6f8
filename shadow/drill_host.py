"""The process from which one system's ticks are started in a drill: `python -m shadow.drill_host`.

It is the runner that a drill can kill. Jobs come in as JSON lines on its standard input, answers go out on its
standard output; with the end of its input it ends, and with it what it started.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from async_tick.orchestrator import TickTimeout
from shadow.observation import Outcome
from shadow.sides import AsyncSide, LegacySide
from tickover.boundary.effects import default_effect
from tickover.boundary.observation import Late
from tickover.boundary.observation import Mode as HostMode
from tickover.canonical import normalise
from tickover.errors import TickoverError
from tickover.execution import ExecutionKey, System
from tickover.faults import read_ledger
from tickover.loading import load_workload
from tickover.tape import TapeEntry
from tickover.workflow import Workflow, Write

# Between two looks for what an abandoned step has done, in seconds.
LOOK_S = 0.05


class Host:
    """Runs the ticks of one system, one at a time."""

    def __init__(self, system: System, workload: str, home: Path, time_scale: float) -> None:
        self.workflow = load_workload(workload)
        self._system, self._time_scale = system, time_scale
        if system is System.LEGACY:
            self._legacy = LegacySide(workload, self.workflow, home, time_scale=time_scale, env=dict(os.environ))

    def run(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """What a job came to: the observation, its final state, and what came late."""
        if "read_state" in job:
            return {"state": self._legacy.process.read_state(), "unended": job["read_state"]}
        key = ExecutionKey.parse(job["execution_id"])
        started_at = dt.datetime.fromisoformat(job["started_at"])
        if self._system is System.ASYNC:
            side = AsyncSide(self.workflow, time_scale=self._time_scale, timeout_s=job["timeout_s"])
            tape = {"run": key.run, "tick": key.tick, "on_miss": "live", "latency": True}
            seen = side.run(
                key, started_at=started_at, state=job["state"], tape=tape, draws=job["draws"], faults=job["faults"]
            )
            return {"observation": seen.to_json(), "state": seen.state_after, "late": 0}
        seen, _ = self._legacy.run(
            key, HostMode.COPY, started_at=started_at, state=job["state"], draws=job["draws"], faults=job["faults"],
            tape=[TapeEntry.from_json(entry) for entry in job["tape"]],
        )  # fmt: skip
        late = self._late(job) if any(step.status == "gave_up" for step in seen.steps.values()) else 0
        state = seen.state_after
        if late or seen.outcome is Outcome.LOST:
            state = normalise(self._legacy.process.read_state(), self.workflow.normalise)
        seen = replace(seen, state_after=None)
        return {"observation": seen.to_json(), "state": state, "late": late}

    def _late(self, job: Mapping[str, Any]) -> int:
        """How many effects came after the old system had given up on their step; waits for the step's end."""
        deadline, count = time.monotonic() + job["late_s"], 0
        while time.monotonic() < deadline:
            found: list[Late] = self._legacy.process.late_effects()
            count += sum(len(late.effects) for late in found)
            if any(job["faults"]["step"] in late.steps for late in found):
                break
            time.sleep(LOOK_S)  # the pace of looking
        return count


def effects_of(workflow: Workflow, folder: Path) -> list[list[Any]]:
    """[step, kind, payload] of what the old system wrote, by the ledger: also where its process was killed."""
    found: list[list[Any]] = []
    for event in read_ledger(folder):
        if event["event"] == "wrote":
            write = Write(**event["write"])
            mapped = (
                default_effect(write, event["rowid"])
                if workflow.legacy_effects is None
                else workflow.legacy_effects(write)
            )
            if mapped is not None and mapped[0] not in workflow.state_kinds:
                found.append([event["step"], mapped[0], mapped[1]])
    return found


def main() -> None:
    """Answer jobs until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # What a user's code prints must not stand among the answers.
    os.dup2(2, 1)
    jobs: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(jobs,), name="tickover-jobs", daemon=True).start()
    host: Host | None = None
    while True:
        job = json.loads(jobs.get())
        try:
            if host is None:
                host = Host(System(job["system"]), job["workload"], Path(job["home"]), job["time_scale"])
            answer = host.run(job)
        except TickTimeout as error:
            answer = {"unended": str(error)}
        except TickoverError as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _listen(jobs: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        jobs.put(line)
    os._exit(0)


if __name__ == "__main__":
    main()
