"""The process of a runner: `python -m tests.chaos.runner_host loop|starter RUN HOME STOP IN_FLIGHT`.

It goes on where the process before it was killed, notes each end that it was told of, and begins nothing more once
the file STOP is there.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from async_tick.connection import LOST, Pool
from tests.chaos.noting_job import job, legacy_env, notebook
from tickover.errors import ConfigurationError, InfrastructureError
from tickover.execution import ExecutionKey, Purpose, System

log = logging.getLogger(__name__)
# Between attempts to reach what is away, as a service manager pauses before it starts a service again.
PAUSE_S = 0.2
# Whether anything that was begun is still to be adopted or delivered.
_OPEN = """
SELECT EXISTS (SELECT FROM ticks WHERE run = %(run)s AND adopted_at IS NULL)
    OR EXISTS (SELECT FROM outbox WHERE run = %(run)s AND delivered_at IS NULL)
"""


def run_loop(run: str, home: Path, stop: Path) -> None:
    """Serve a run by the loop that `tickover serve` has. Where the one before it still holds the run, it waits."""
    from async_tick.loop import Loop
    from async_tick.serving import Server, TickEnd

    while not (stop.exists() and _asked(_OPEN, run) == [(False,)]):
        server = Server(job, "tests.chaos.noting_job:job", run, home, time_scale=1.0, env=legacy_env(home, 1.0, None))
        loop = Loop(server, every_s=0)

        def tell(end: TickEnd, late: bool, loop: Loop = loop) -> None:
            notebook().told(run, end.tick, end.owner.value, end.status)
            if stop.exists():
                loop.stop()

        try:
            loop.serve(None, tell)
        except (*LOST, InfrastructureError) as error:
            log.warning("not served: %s", error)
            time.sleep(PAUSE_S)
        except ConfigurationError as error:
            if "another process serves" not in str(error):
                raise
            time.sleep(PAUSE_S)


def run_starter(run: str, stop: Path, in_flight: int) -> None:
    """Start executions, so many at once, each waited for until its end is known."""
    from async_tick import orchestrator

    lock = threading.Lock()
    over = {note.tick for note in notebook().read() if note.kind == "told" and note.run == run}
    begun = {row[0] for row in _asked("SELECT tick FROM workflows WHERE run = %(run)s", run)}
    waiting = iter(sorted(begun - over))
    following = iter(range(max(begun, default=-1) + 1, sys.maxsize))

    def next_tick() -> int | None:
        with lock:
            # What a killed starter began is seen to its end, also after the stop.
            found = next(waiting, None)
            return found if found is not None or stop.exists() else next(following)

    def work() -> None:
        while (tick := next_tick()) is not None:
            key = ExecutionKey(run=run, tick=tick, system=System.ASYNC, purpose=Purpose.CONTROL)
            while True:
                try:
                    ended = orchestrator.execute(key, job, state={"entries": []}, timeout_s=5)
                    break
                except (*LOST, InfrastructureError) as error:
                    log.warning("tick %d: %s", tick, error)
                    time.sleep(PAUSE_S)
            notebook().told(run, tick, System.ASYNC.value, ended.status)

    with ThreadPoolExecutor(in_flight) as threads:
        for done in [threads.submit(work) for _ in range(in_flight)]:
            done.result()


def _asked(statement: str, run: str) -> list[tuple[Any, ...]]:
    """All rows of a statement about a run, once PostgreSQL answers."""
    pool = Pool("tickover chaos")
    while True:
        try:
            return pool.rows(statement, {"run": run})
        except (*LOST, InfrastructureError) as error:
            log.warning("not asked: %s", error)
            time.sleep(PAUSE_S)
        finally:
            pool.close()


def main(kind: str, run: str, home: str, stop: str, in_flight: str) -> int:
    """Run until the stop; 0 once all that was begun is over."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    if kind == "loop":
        run_loop(run, Path(home), Path(stop))
    else:
        run_starter(run, Path(stop), int(in_flight))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
