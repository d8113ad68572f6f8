"""`serve --shadow` on the command line: one loop before and after the switchover, killed at any instant."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest

from tests.conftest import ROOT, clean_environment, data_directory

JOB = "tests.integration.beside_job:job"


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """A user with an empty data directory, whose servers stay up."""
    with data_directory("tickover-beside-") as data_dir:
        found = clean_environment(TICKOVER_DATA_DIR=str(data_dir), TICKOVER_TIME_SCALE="0.01")
        started = run(found, "servers", "start")
        yield found | dict(line.split("=", 1) for line in started.splitlines() if line.startswith("DATABASE_URL="))


def run(environment: dict[str, str], *arguments: str, code: int = 0) -> str:
    own = {name: value for name, value in environment.items() if name != "DATABASE_URL"}
    done = subprocess.run(
        [sys.executable, "cli.py", *arguments], cwd=ROOT, env=own, capture_output=True, text=True, check=False,
        timeout=110,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def rows(environment: dict[str, str], statement: str) -> list[tuple[Any, ...]]:
    with closing(psycopg2.connect(environment["DATABASE_URL"])) as connection, connection.cursor() as do:
        do.execute(statement)
        return list(do.fetchall())


def serve(environment: dict[str, str], ticks: int, *more: str) -> str:
    return run(environment, "serve", "--shadow", "--every", "0", "--ticks", str(ticks), *more)


def switch(environment: dict[str, str]) -> None:
    """Put the new system in charge, without the checks of the command."""
    run(environment, "route")
    code = (
        "from async_tick.route import move, read_route\nfrom tickover.execution import System\n"
        "move(read_route(), System.ASYNC, author='test', reason='trial')"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, timeout=60)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_being_is_compared_before_and_after_the_switchover(environment: dict[str, str], calm_model: str) -> None:
    """The day before, and life after it: two runs of one loop, which `runs`, `report`, `findings` and `diff` know."""
    # Limits that a busy machine keeps: what is asked here is not how fast a step is.
    environment = environment | {"TICKOVER_TIME_SCALE": "0.5", "TICKOVER_MODEL_URL": calm_model}
    before = serve(environment, 3)
    switch(environment)
    after = serve(environment, 3)
    assert [line.split(" in ")[0] for line in (before + after).splitlines() if line.startswith("tick ")
            and "beside" not in line] == [
        *(f"tick {tick}: legacy done" for tick in range(3)), *(f"tick {tick}: async done" for tick in range(3, 6)),
    ]  # fmt: skip
    found = json.loads(run(environment, "runs", "--json"))
    assert [(each["run"].rsplit("-", 1)[0], sum(each["counts"].values())) for each in found] == [
        ("main-e2", 3), ("main-e1", 3),
    ]  # fmt: skip
    # The old system may give up where the new one did not; what both came to is the same.
    assert all(each["counts"].get("mismatch", 0) == 0 for each in found)
    for each, tick in zip(found, (4, 1), strict=True):
        document = json.loads(run(environment, "report", each["run"], "--policy", "scaled", "--json", code=4))
        assert document["run"]["status"] == ("paused" if tick == 4 else "done")
        assert document["run"]["control"] == ("async" if tick == 4 else "legacy")
        sides = json.loads(run(environment, "diff", each["run"], str(tick), "--json"))["observations"]
        assert sides["control"]["system"] == document["run"]["control"]
        run(environment, "findings", each["run"])
    refused = run(environment, "shadow", "--resume", found[0]["run"], code=2)
    assert "serve --shadow --run main" in refused


def test_what_needs_shadow_is_refused_without_it(environment: dict[str, str]) -> None:
    """An option that would do nothing is an error."""
    assert "they need --shadow" in run(environment, "serve", "--ticks", "1", "--noise", "0.5", code=2)


def _killed(environment: dict[str, str], after_ticks: int, delay_s: float) -> None:
    """A loop that is killed a moment after it has served so many ticks."""
    own = {name: value for name, value in environment.items() if name != "DATABASE_URL"}
    loop = subprocess.Popen(
        [sys.executable, "cli.py", "serve", "--shadow", "--every", "0", "--workload", JOB], cwd=ROOT, env=own,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    assert loop.stdout is not None
    try:
        for _ in range(after_ticks):
            assert loop.stdout.readline().startswith("tick ")
        threading.Event().wait(delay_s)  # the instant of the kill, drawn by the test's seed
    finally:
        os.kill(loop.pid, signal.SIGKILL)
        loop.wait()
        loop.stdout.close()


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("charge", ["legacy", "async"])
def test_a_loop_that_is_killed_loses_no_tick_and_counts_none_twice(environment: dict[str, str], charge: str) -> None:
    """kill -9 at drawn instants, whoever is in charge: ticks go on without a gap, each with one owner, one entry in
    the state and one comparison. Only the old system's tick that was cut off is lost, by name."""
    if charge == "async":
        switch(environment)
    draw = random.Random(charge)
    for _ in range(4):
        _killed(environment, draw.randint(1, 6), draw.random() * 0.2)
    serve(environment, 3, "--workload", JOB)
    ticks = rows(environment, "SELECT tick, owner, outcome FROM ticks ORDER BY tick")
    assert [tick for tick, _, _ in ticks] == list(range(len(ticks)))
    assert {owner for _, owner, _ in ticks} == {charge}
    lost = {tick for tick, _, outcome in ticks if outcome == "lost"}
    assert {outcome for _, _, outcome in ticks} <= {"done", "lost"} and len(lost) <= (4 if charge == "legacy" else 0)
    state = json.loads(rows(environment, "SELECT document FROM states ORDER BY tick DESC LIMIT 1")[0][0])
    entered = [entry[0] for entry in state["entries"]]
    assert sorted(set(entered) | lost) == list(range(len(ticks))) and len(entered) == len(set(entered))
    compared = rows(environment, "SELECT s.run, s.tick, c.kind, c.reason FROM shadow_ticks s LEFT JOIN "
                    "shadow_comparisons c ON (c.run, c.tick) = (s.run, s.tick) ORDER BY s.tick")  # fmt: skip
    assert [tick for _, tick, _, _ in compared] == list(range(len(ticks)))
    assert len({name for name, _, _, _ in compared}) == 1
    kinds = {kind for _, _, kind, _ in compared}
    assert kinds <= ({"match", "not_compared"} if charge == "legacy" else {"match"}), compared
    assert all("kept" in reason for _, _, kind, reason in compared if kind == "not_compared")
    assert lost <= {tick for _, tick, kind, _ in compared if kind == "not_compared"}
