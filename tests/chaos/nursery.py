"""The process from which the storm's parties are forked: all is imported once, and each is there in milliseconds.

Run as `python -m tests.chaos.nursery`: a line of JSON names a party, the answer is its process id. A party is a
process in a group of its own; the storm ends what it has started.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import mmap
import os
import signal
import struct
import sys
import traceback
from pathlib import Path
from typing import Any

from tests.chaos import stepping

# What stands in a party's fuse: how many boundaries it may still pass, the signal that it then gives itself, and what
# must be in a boundary's name for it to count.
FUSE = struct.Struct("ii64s")


def fuse(boundaries: int, number: int, aim: str = "") -> bytes:
    """A fuse that burns down at the so-and-so-many-th boundary whose name has `aim` in it."""
    return FUSE.pack(boundaries, number, aim.encode())


# What every party would import for itself, as far as that starts no thread and opens no connection.
PRELOADED = (
    "cli", "async_tick.commands", "async_tick.celery_app", "async_tick.loop", "async_tick.serving",
    "async_tick.route", "async_tick.rollback", "async_tick.sweeper", "async_tick.steps",
    "tickover.ground.migrate", "migrations", "tickover.ground.database", "tickover.boundary.child",
    "shadow.switchover", "async_tick.guarding",
    "celery.bin.worker", "celery.worker", "celery.apps.worker", "celery.concurrency.thread",
    "kombu.transport.redis", "tests.chaos.storm_job",
)  # fmt: skip

# Where a guardrail is set: a tick that took longer is a slow one, in milliseconds.
SLOW_MS = 60.0

# Defects to plant: what statements are rewritten to, and what is done before the party begins.
REWRITES = {
    "adoption-without-epoch": {"AND epoch = (SELECT epoch FROM route WHERE id = 1)": ""},
    "move-without-lock": {"SELECT pg_advisory_xact_lock(%s)": "SELECT %s"},
    "move-without-holds": {"AND (holds = 0 OR %s)": "AND (%s IS NOT NULL)"},
}


def _hook(party: dict[str, Any]) -> stepping.Hook:
    """Burn the party's fuse at each boundary; where it ends, tell the ledger of boundaries and stop or die."""
    with Path(party["fuse"]).open("r+b") as file:
        burning = mmap.mmap(file.fileno(), FUSE.size)

    def hook(boundary: str) -> None:
        left, number, aim = FUSE.unpack(burning[:])
        if left <= 0 or aim.rstrip(b"\0").decode() not in boundary:
            return
        burning[:] = FUSE.pack(left - 1, number, aim)
        if left == 1:
            line = f"{party['kind']}\t{signal.Signals(number).name}\t{boundary}\t{os.getpid()}\n"
            log = os.open(party["boundaries"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            os.write(log, line.encode())
            os.close(log)
            os.kill(os.getpid(), number)

    return hook


def _plant(defect: str | None) -> None:
    if defect == "hand-over-without-store":
        from async_tick.serving import Server

        Server._hand_over = lambda *arguments, **named: None  # type: ignore[method-assign]


def _switch(reason: str, budget: int | None) -> None:
    """What `tickover switchover` does once its checks are through. budget: of slow ticks; None for no guardrails."""
    from async_tick import route
    from async_tick.guardrails import Guardrails
    from shadow.switch_store import Basis
    from shadow.switchover import switch
    from tests.chaos.storm_job import RUN

    seen = route.read_route()
    if seen.holds:
        raise route.Held("held already when the decision was made")
    basis = Basis(
        run=RUN, home="home", evidence_run=None, policy="storm", verdict=None, failed=(), backup=None, quiet_hours=1.0
    )  # fmt: skip
    guardrails = None if budget is None else Guardrails(slow=budget, baseline_ms=SLOW_MS, latency_factor=1.0)
    switch(seen, [], basis, reason=reason, author="storm", guardrails=guardrails)


def _worker(name: str) -> None:
    from async_tick.celery_app import app

    app.worker_main(
        ["worker", "--pool=threads", "--concurrency=2", f"--hostname={name}@%h", "--without-gossip",
         "--without-mingle", "--loglevel=WARNING"]
    )  # fmt: skip


def _live(party: dict[str, Any]) -> int:
    """Be the party; its exit code."""
    from cli import _exit_code

    os.setsid()
    output = os.open(party["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    # Asked for by a storm that does not go on.
    faulthandler.register(signal.SIGUSR1, file=2)
    if party["kind"] != "worker":
        stepping.install(_hook(party), REWRITES.get(party.get("defect") or "", {}))
        _plant(party.get("defect"))
    if party["kind"] == "switch":
        _switch(party["reason"], party["budget"])
        return 0
    if party["kind"] == "worker":
        _worker(party["name"])
        return 0
    return _exit_code(party["arguments"], True)


def main() -> None:
    """Fork parties until there is nobody to ask for one."""
    for name in PRELOADED:
        importlib.import_module(name)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    for line in iter(sys.stdin.readline, ""):
        party = json.loads(line)
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            code = 70
            try:
                code = _live(party)
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else 1
            except BaseException:  # noqa: BLE001 - a fork must never return into the loop of its parent
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
