"""Shadow runs through the command line, with real servers, a real worker and the real old system."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, data_directory


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """The environment of a user with an empty data directory, which is removed."""
    with data_directory("tickover-acceptance-") as data_dir:
        yield {**os.environ, "TICKOVER_DATA_DIR": str(data_dir), "TICKOVER_TIME_SCALE": "0.01"}


def tickover(environment: dict[str, str], *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "cli.py", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True,
        check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done.stdout


def test_a_run_compares_each_tick_once_and_is_reported(environment: dict[str, str]) -> None:
    """Ten ticks: ten comparisons, none of them a mismatch, and a report that says so."""
    run: dict[str, Any] = json.loads(tickover(environment, "shadow", "--ticks", "10", "--every", "0s", "--json"))
    assert sum(run["counts"].values()) == 10
    assert set(run["counts"]) <= {"match", "improved", "unverified"}
    report = tickover(environment, "report", code=4)
    assert "10 of 10 ticks compared" in report and "KEEP RUNNING" in report
    assert tickover(environment, "findings", run["run"]) == ""
    shown = json.loads(tickover(environment, "diff", run["run"], "3", "--json"))
    assert set(shown["observations"]) >= {"control", "candidate"}
    assert tickover(environment, "diff", run["run"], "99", code=2) == ""


def test_a_run_that_ended_undecided_is_made_longer(environment: dict[str, str]) -> None:
    """The report says how to go on; two ticks more are in the same run, and fewer than it has are refused."""
    run = json.loads(tickover(environment, "shadow", "--ticks", "3", "--every", "0s", "--json"))["run"]
    assert f"shadow --resume {run} --ticks" in " ".join(tickover(environment, "report", code=4).split())
    longer = json.loads(tickover(environment, "shadow", "--resume", run, "--ticks", "5", "--json"))
    assert (longer["run"], sum(longer["counts"].values())) == (run, 5)
    assert "5 of 5 ticks compared" in tickover(environment, "report", code=4)
    tickover(environment, "shadow", "--resume", run, "--ticks", "4", code=2)


def test_a_killed_run_is_resumed_and_no_tick_is_lost_or_counted_twice(environment: dict[str, str]) -> None:
    """kill -9 of the runner in mid-run, then --resume: each tick has one comparison, at most one of them not
    compared."""
    tickover(environment, "servers", "start")
    begun = subprocess.Popen(
        [sys.executable, "cli.py", "shadow", "--ticks", "30", "--every", "0s"], cwd=ROOT, env=environment,
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    assert begun.stderr is not None
    run = begun.stderr.readline().split()[1].rstrip(":")
    deadline = time.monotonic() + 60
    while (done := _compared(environment, run)) < 5:
        assert time.monotonic() < deadline, "the run made no progress"
    os.kill(begun.pid, signal.SIGKILL)
    begun.wait()
    begun.stderr.close()
    assert done < 30
    resumed = json.loads(tickover(environment, "shadow", "--resume", run, "--json"))
    assert sum(resumed["counts"].values()) == 30
    assert resumed["counts"].get("not_compared", 0) <= 1
    assert set(resumed["counts"]) <= {"match", "improved", "unverified", "not_compared"}


def _compared(environment: dict[str, str], run: str) -> int:
    found = json.loads(tickover(environment, "runs", "--json"))
    return sum(sum(row["counts"].values()) for row in found if row["run"] == run)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["shadow"], "either --ticks N or --for 24h"),
        (["shadow", "--ticks", "3", "--for", "1h"], "either --ticks N or --for 24h"),
        (["shadow", "--for", "soon"], "is no duration"),
        (["shadow", "--ticks", "3", "--workload", "nowhere:job"], "no module 'nowhere'"),
        (["shadow", "--ticks", "3", "--workload", "digital_being:steps"], "not a tickover.Workflow"),
        (["report", "nothing"], "there is no run 'nothing'"),
        (["report"], "there is no run yet"),
        (["serve", "--every", "-1"], "'-1' is no duration"),
        (["serve", "--shadow", "--noise", "7"], "'7' is no share"),
    ],
)
def test_wrong_input_is_named_and_nothing_is_done(
    environment: dict[str, str], arguments: list[str], said: str
) -> None:
    """The error names the culprit on stderr, the exit code is 2, and stdout stays empty."""
    done = subprocess.run(
        [sys.executable, "cli.py", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_loop_goes_on_where_it_was(environment: dict[str, str], calm_model: str) -> None:
    """Served twice: ticks 0 and 1, then 2 and 3, each adopted once, their letters and notes delivered."""
    environment |= {"TICKOVER_TIME_SCALE": "1", "TICKOVER_MODEL_URL": calm_model}
    first = tickover(environment, "serve", "--ticks", "2", "--every", "0")
    second = tickover(environment, "serve", "--ticks", "2", "--every", "0")
    assert [line.split(":")[0] for line in (first + second).splitlines()] == ["tick 0", "tick 1", "tick 2", "tick 3"]
    home = Path(environment["TICKOVER_DATA_DIR"]) / "home" / "main"
    assert len(list((home / "notes").glob("*.md"))) == 4
    assert len(list((home / "outbox").glob("*.json"))) == 4


@pytest.mark.parametrize(
    ("options", "control"), [(["--mode", "paired"], "legacy"), (["--candidate", "legacy"], "async")]
)
def test_both_run_on_copies(environment: dict[str, str], options: list[str], control: str) -> None:
    """In paired order, or the old one behind the new one: no mismatch, and each tick has both observations."""
    run = json.loads(tickover(environment, "shadow", "--ticks", "12", "--every", "0s", "--json", *options))
    assert sum(run["counts"].values()) == 12
    assert set(run["counts"]) <= {"match", "improved", "unverified", "candidate_failed"}
    assert run["counts"]["match"] >= 6
    seen = json.loads(tickover(environment, "diff", run["run"], "3", "--json"))["observations"]
    assert seen["control"]["system"] == control and seen["candidate"]["system"] != control


def test_a_home_is_refused_where_everything_runs_on_copies(environment: dict[str, str], tmp_path: Path) -> None:
    """The old system's own home is never touched by a run on copies."""
    command = [sys.executable, "cli.py", "shadow", "--ticks", "2", "--mode", "paired", "--home", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "--home" in done.stderr


RULES = """
[[rule]]
name = "meta asks with less"
action = "ignore"
step = "meta"
path = "**"
reason = "the planted defect"
owner = "ada"
expires = 2999-01-01
"""


def test_rules_hide_count_and_are_recomputed(environment: dict[str, str], tmp_path: Path) -> None:
    """A run with a planted defect: with a rule its ticks are tolerated and the rule is named; without it, in
    hindsight, they are mismatches. A fifth of the ticks ran the old system twice, which agrees with itself."""
    rules, none = tmp_path / "rules.toml", tmp_path / "none.toml"
    rules.write_text(RULES)
    none.write_text("")
    run = json.loads(
        tickover(
            environment, "shadow", "--workload", "examples.planted:heavy_tick", "--ticks", "20", "--every", "0s",
            "--rules", str(rules), "--noise", "40%", "--json",
        )
    )  # fmt: skip
    assert run["counts"].get("tolerated", 0) >= 2 and "mismatch" not in run["counts"]
    report = json.loads(tickover(environment, "report", "--json", code=4))
    assert "meta asks with less" in json.dumps(report)
    noise = {found["name"]: found for found in report["criteria"] if found["group"] == "noise"}
    assert noise["noise/monologue"]["bad"] == 0 and noise["noise/monologue"]["n"] >= 2
    again = json.loads(tickover(environment, "recompare", run["run"], "--rules", str(none), "--json"))
    assert again["hindsight"] is True
    assert again["after"]["mismatch"] >= run["counts"]["tolerated"] - 1 and not again["hidden"]
    assert json.loads(tickover(environment, "runs", "--json"))[0]["counts"] == run["counts"]
