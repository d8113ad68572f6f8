"""The demonstration: the whole way of a job from its old system to the new one and back, in a few minutes.

A port with a planted defect is found out and named; repaired, it is ready; the new system is put in charge; a worker
is killed under a running tick, which recovers; and the old system is put back, with all that was written since. It
ends with 0 only if all of that came about.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from examples.stage import LoopReader, Stage, StoryBroke, data_directory, kill_tree_below

PLANTED = "meta"
POLICY = str(Path(__file__).with_name("demo.toml"))
TICKS_PLANTED, TICKS_REPAIRED = 60, 120
SCALE = 0.01
_WORKERS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tickover sweeper'"
# A step that is under way, of those that take long enough to be met.
_RUNS = """
SELECT EXISTS (SELECT FROM step_runs WHERE status = 'running' AND step IN ('goal_selection', 'action')
               AND started_at < clock_timestamp() - interval '20 ms')
"""
_RECOVERED = """
SELECT max(w.tick) FROM step_runs s JOIN workflows w ON w.id = s.workflow_id
WHERE w.run = 'main' AND w.purpose = 'control' AND s.recoveries > 0 AND s.status = 'done'
"""
# How often a worker is killed at most: a step may end in the moment in which its process is chosen.
TRIES = 3
# Between two ticks of the loop, in seconds at scale 1.
EVERY_S = 120


class Claims:
    """What the story says, and whether it holds."""

    def __init__(self) -> None:
        self.broken: list[str] = []

    def say(self, claim: str, holds: bool) -> None:
        """Note a claim and print whether it holds."""
        print(f"{'ok    ' if holds else 'FAILED'}  {claim}", flush=True)
        if not holds:
            self.broken.append(claim)


def side_by_side(stage: Stage, claims: Claims) -> str:
    """Both systems on the same ticks, with the defect and without; the name of the second run."""
    _chapter("A port with a planted defect, beside the old system")
    found: dict[str, Any] = json.loads(stage.run(
        "shadow", "--workload", "examples.planted:heavy_tick", "--ticks", str(TICKS_PLANTED), "--every", "0s",
        "--json",
    ))  # fmt: skip
    print(stage.run("report", found["run"], "--policy", POLICY, codes=(1,)))
    findings = json.loads(stage.run("findings", found["run"], "--json", shows=False))
    claims.say("the port with the defect is NOT READY", True)
    claims.say(f"all that differs is found in step {PLANTED!r}", {each["step"] for each in findings} == {PLANTED})
    claims.say("every tick has exactly one comparison", sum(found["counts"].values()) == TICKS_PLANTED)

    _chapter("The port repaired")
    found = json.loads(stage.run("shadow", "--ticks", str(TICKS_REPAIRED), "--every", "0s", "--json"))
    print(stage.run("report", found["run"], "--policy", POLICY, "--html", "report.html"))
    counts: dict[str, int] = found["counts"]
    claims.say("the repaired port is READY (scaled)", True)
    claims.say("some ticks are improved: legacy gave up or failed, the new system did not", bool(counts["improved"]))
    claims.say("every tick has exactly one comparison", sum(counts.values()) == TICKS_REPAIRED)
    return str(found["run"])


def over_and_back(stage: Stage, claims: Claims, run: str) -> None:
    """The switchover, a killed worker, and the way back, under a running loop."""
    _chapter("One command over")
    with ExitStack() as stack:
        do = stack.enter_context(_database(stage))
        worker = stack.enter_context(stage.started("worker", "--concurrency", "2"))
        _until(lambda: _asked(do, _WORKERS), "no worker came up")
        loop = LoopReader(stack.enter_context(stage.started("serve", "--every", str(EVERY_S))))
        loop.until("legacy", 3)
        print(stage.run("switchover", run, "--policy", POLICY, "--yes"))
        loop.until("async", 3)
        claims.say("the new system is in charge", True)

        _chapter("A worker is killed under a running tick")
        killed = 0
        tick: int | None = None
        for _ in range(TRIES):
            _until(lambda: _asked(do, _RUNS), "no step was seen to run")
            killed += kill_tree_below(worker.pid)
            loop.until("async", 3)
            if (tick := _asked(do, _RECOVERED)) is not None:
                break
        ended = [each.status for each in loop.ticks if each.tick == tick]
        claims.say(f"{killed} processes were killed with -9, a step of tick {tick} was recovered", tick is not None)
        claims.say("that tick ended well all the same", ended == ["done"])

        _chapter("One command back")
        print(stage.run("rollback", "--reason", "the demonstration is over"))
        loop.until("legacy", 3)
    numbers = [each.tick for each in loop.ticks]
    owners = [each.owner for each in loop.ticks]
    claims.say("every tick had one owner: none was lost, none done twice", numbers == list(range(len(numbers))))
    claims.say("both systems were in charge, and the old one is again", owners[0] == owners[-1] == "legacy")
    notes = {int(path.stem.removeprefix("tick-")) for path in (stage.data_dir / "home" / "main").rglob("tick-*.md")}
    done = {each.tick for each in loop.ticks if each.status == "done"}
    claims.say("each tick that was done has left its note in the old system's home", done <= notes)


@contextmanager
def _database(stage: Stage) -> Iterator[Any]:
    """A cursor to the database of the stage."""
    os.environ.update(stage.environment)
    os.chdir(stage.data_dir)
    from tickover.ground.commands import ready_database
    from tickover.ground.raw import connect_raw

    with ready_database(broker=False), closing(connect_raw(application_name="tickover demo")) as connection:
        connection.autocommit = True
        with connection.cursor() as do:
            yield do


def _asked(do: Any, question: str) -> Any:
    do.execute(question)
    return do.fetchone()[0]


def _until(holds: Callable[[], Any], what: str, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            raise StoryBroke(what)


def _chapter(title: str) -> None:
    print(f"\n\n== {title} ==", flush=True)


def main() -> int:
    """Tell the story and say whether it held."""
    claims, begun_in = Claims(), Path.cwd()
    with data_directory() as data_dir:
        shown = data_dir.relative_to(begun_in) if data_dir.is_relative_to(begun_in) else data_dir
        stage = Stage(data_dir, SCALE)
        try:
            over_and_back(stage, claims, side_by_side(stage, claims))
        except StoryBroke as error:
            claims.say(f"the story goes on ({error})", False)
        except KeyboardInterrupt:
            print("\nstopped; nothing is left running", file=sys.stderr)
            return 130
    if claims.broken:
        print(
            f"\nthe story did not hold: {len(claims.broken)} claims failed; logs are in {data_dir}", file=sys.stderr
        )
        return 1
    print(f"\nThe whole report as a page: {shown / 'report.html'}; the same database again, with any command:")
    print(f"    TICKOVER_DATA_DIR={shown} python cli.py runs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
