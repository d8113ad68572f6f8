"""The process in which legacy runs: `python -m tickover.host`, started by `tickover.boundary.child`.

It imports only Tickover's contract and the user's code. Adapters are installed before the user's code is imported.
Commands come in and answers go out as JSON lines, on two inherited pipes; the process ends when its pipe closes, also
in the middle of a tick.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tickover.boundary import audit, chance, clock, files, http_client, httpx_client, psycopg, sqlite, steps
from tickover.boundary.observation import LegacyRequest, RoundTrip
from tickover.boundary.session import session
from tickover.boundary.tick import TickRunner
from tickover.canonical import canonical_text, normalise
from tickover.errors import ConfigurationError, TickoverError
from tickover.loading import load_object, load_workload
from tickover.workflow import Workflow

# A document, and where somebody waits for it to be written, an event that is set then.
Answer = dict[str, Any] | tuple[dict[str, Any], threading.Event]


class Host:
    """Answers commands, one at a time."""

    def __init__(
        self, workload: str, home: Path, time_scale: float, model_url: str | None, begins: Callable[[int], None]
    ) -> None:  # fmt: skip
        self._home, self._begins = home, begins
        session.installed += [*clock.install(), *chance.install(), *files.install(), *sqlite.install()]
        steps.install_inheritance()
        audit.install()
        self._workflow: Workflow = load_workload(workload)
        session.installed += http_client.install(self._workflow)
        httpx_client.install(self._workflow)
        psycopg.install()
        if self._workflow.legacy_env is not None:
            os.environ.update(self._workflow.legacy_env(home, time_scale, model_url))
        self._workload = workload
        self._runner: TickRunner | None = None
        self.commands: dict[str, Callable[[dict[str, Any]], Any]] = {
            "hello": lambda _: {"pid": os.getpid(), "observed": session.installed, "workflow": self._workflow.name},
            "run_tick": self._run_tick,
            "read_state": lambda _: self._read_state(),
            "write_state": self._write_state,
            "check_round_trip": lambda _: self._check_round_trip(),
            "late_effects": lambda _: [late.to_json() for late in self._runner.late()] if self._runner else [],
        }

    def _run_tick(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._runner is None:
            self._runner = self._load()
        found = LegacyRequest.from_json(request)
        self._begins(found.tick)
        return self._runner.run(found).to_json()

    def _load(self) -> TickRunner:
        workflow, legacy = self._workflow, self._workflow.legacy
        if legacy is None:
            raise ConfigurationError(f"workflow {workflow.name!r} has no legacy to run; give it `legacy`")
        steps.wrap_steps(workflow)
        run = load_object(legacy) if isinstance(legacy, str) else legacy
        own = [reference.partition(":")[0] for reference in workflow.legacy_steps.values()]
        session.user_packages([self._workload.partition(":")[0], str(run.__module__), *own])
        return TickRunner(workflow, run, self._home)

    def _read_state(self) -> Any:
        if self._workflow.read_state is None:
            raise ConfigurationError(
                f"workflow {self._workflow.name!r} cannot read legacy's state; give it `read_state`"
            )
        return normalise(self._workflow.read_state(self._home), self._workflow.normalise)

    def _write_state(self, arguments: dict[str, Any]) -> None:
        if self._workflow.write_state is None:
            raise ConfigurationError(
                f"workflow {self._workflow.name!r} cannot write legacy's state; give it `write_state`"
            )
        self._workflow.write_state(self._home, arguments["state"])

    def _check_round_trip(self) -> dict[str, Any]:
        workflow = self._workflow
        state = self._read_state()
        if workflow.write_state is None or workflow.read_state is None:
            return vars(RoundTrip(holds=False, reason="there is no `write_state`", state=state, read_back=None))
        with tempfile.TemporaryDirectory(prefix="tickover-") as other:
            workflow.write_state(Path(other), state)
            read_back = normalise(workflow.read_state(Path(other)), workflow.normalise)
        holds = canonical_text(state) == canonical_text(read_back)
        reason = None if holds else "what read_state gives back is not what write_state was given"
        return vars(RoundTrip(holds=holds, reason=reason, state=state, read_back=read_back))


def main(arguments: list[str] | None = None) -> None:
    """Serve commands until the pipe closes."""
    parser = argparse.ArgumentParser(prog="tickover.host")
    parser.add_argument("--read-fd", type=int, required=True)
    parser.add_argument("--write-fd", type=int, required=True)
    parser.add_argument("--workload", required=True)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--project", action="append", default=[])
    parser.add_argument("--time-scale", type=float, default=1.0)
    parser.add_argument("--model-url")
    options = parser.parse_args(arguments)
    for descriptor in (options.read_fd, options.write_fd):
        os.set_inheritable(descriptor, False)
    sys.path[:0] = [path for path in options.project if path not in sys.path]
    home = options.home.resolve()
    os.chdir(home)
    sys.argv = ["tickover.host"]
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(options.read_fd, lines), name="tickover-pipe", daemon=True).start()
    answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()

    def begins(tick: int) -> None:
        # Written before the tick runs: where the parent finds nothing, nothing has happened.
        written = threading.Event()
        answers.put(({"begins": tick}, written))
        written.wait()

    threading.Thread(target=_answer, args=(options.write_fd, answers), name="tickover-answers", daemon=True).start()
    session.tell = answers.put
    host: Host | None = None
    while True:
        command = json.loads(lines.get())
        try:
            if host is None:
                host = Host(options.workload, home, options.time_scale, options.model_url, begins)
            answer = {"ok": host.commands[command["command"]](command["arguments"])}
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the parent is told, whatever it is
            name = type(error).__name__
            if not isinstance(error, TickoverError):
                sys.excepthook(type(error), error, error.__traceback__)
            answer = {"error": {"type": name, "message": str(error)}}
        answers.put(answer)
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stdout.flush()


def _answer(descriptor: int, answers: queue.SimpleQueue[Answer]) -> None:
    """Write answers and news; a thread of its own, so that a parent that does not read delays nobody."""
    with os.fdopen(descriptor, "w", encoding="utf-8") as pipe:
        while True:
            answer = answers.get()
            document, written = answer if isinstance(answer, tuple) else (answer, None)
            pipe.write(json.dumps(document, default=lambda value: value.to_json()) + "\n")
            pipe.flush()
            if written is not None:
                written.set()


def _listen(descriptor: int, lines: queue.SimpleQueue[str]) -> None:
    """Pass commands on; without a parent there is nobody to run for, whatever runs."""
    with os.fdopen(descriptor, encoding="utf-8") as commands:
        for line in commands:
            lines.put(line)
    os._exit(0)


if __name__ == "__main__":
    main()
