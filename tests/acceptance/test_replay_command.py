"""`replay`, `backtest` and `timeouts suggest` on a run that was really recorded, through the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, data_directory

# The job is the shipped one until the file says otherwise: the port as it is now is another one than in the run.
JOB = """
import copy, dataclasses, pathlib
import digital_being

def worse(context):
    result = copy.deepcopy(digital_being.heavy_tick.step("social").run(context))
    return {**result, "altered": True} if result else result

heavy_tick = digital_being.heavy_tick
if pathlib.Path(__file__).with_name("altered").exists():
    heavy_tick = dataclasses.replace(heavy_tick, steps=[
        dataclasses.replace(step, run=worse) if step.name == "social" else step for step in heavy_tick.steps
    ])
"""


class Project:
    """A directory with a job, and a recorded run of it."""

    def __init__(self, home: Path, data_dir: Path) -> None:
        self.home = home
        (home / "job.py").write_text(JOB)
        self.environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "TICKOVER_DATA_DIR": str(data_dir), "TICKOVER_TIME_SCALE": "0.01",
            # However busy the machine is, this step of the new system does not run into its limit.
            "TICKOVER_STEP_TIMEOUTS__MONOLOGUE": "6000",
        }  # fmt: skip
        made = self("shadow", "--workload", "job:heavy_tick", "--ticks", "16", "--every", "0s", "--json")
        assert made.returncode == 0, made.stderr
        self.run = json.loads(made.stdout)["run"]
        self.counts = json.loads(made.stdout)["counts"]
        self.tick = next(tick for tick in range(16) if self._is_plain(tick))

    def _is_plain(self, tick: int) -> bool:
        """Whether both systems ended a tick alike: on a busy machine the old one gives up now and then."""
        seen = json.loads(self("diff", self.run, str(tick), "--json").stdout)
        social = seen["observations"]["control"]["steps"]["social"]["status"]
        return bool(seen["comparison"]["kind"] == "match" and social == "done")

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / "cli.py"), *arguments], cwd=self.home, env=self.environment,
            capture_output=True, text=True, check=False, timeout=110,
        )  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A run of 16 ticks; its servers end with the module."""
    with data_directory("tickover-acceptance-") as data_dir:
        project = Project(tmp_path_factory.mktemp("project"), data_dir)
        project("servers", "start")
        yield project


@pytest.fixture
def altered(project: Project) -> Iterator[Project]:
    """The project with a port that has a defect since the run."""
    mark = project.home / "altered"
    mark.touch()
    yield project
    mark.unlink()


def test_the_same_port_does_the_same_again(project: Project) -> None:
    """Each tick that matched matches again, without any service: tape and draws are all that it takes. What was
    stored is as it was."""
    tick = str(project.tick)
    before = project("diff", project.run, tick, "--json").stdout
    done = project("replay", project.run, tick, "--json")
    assert done.returncode == 0, done.stderr
    replayed = json.loads(done.stdout)
    assert (replayed["comparison"]["kind"], replayed["was"]) == ("match", "match")
    assert set(replayed["observations"]) == {"control", "port"}
    shown = project("replay", project.run, tick)
    assert shown.stdout.startswith(f"tick {tick} of {project.run}: match") and "port (async): done" in shown.stdout
    assert "in the run it was: match" in shown.stderr
    tested = json.loads(project("backtest", project.run, "--json").stdout)
    assert tested["was"] == project.counts and tested["evidence"] is False
    assert "match" not in {was for was, _ in tested["changed"].values()}
    assert project("diff", project.run, tick, "--json").stdout == before
    assert json.loads(project("runs", "--json").stdout)[0]["counts"] == project.counts


def test_a_port_that_changed_is_told_by_its_step(altered: Project) -> None:
    """A defect that the port has since the run is found at its step, with exit code 1, in one tick and in all."""
    done = altered("replay", altered.run, str(altered.tick))
    assert done.returncode == 1, done.stderr
    assert "mismatch" in done.stdout.splitlines()[0] and "step social, result: altered" in done.stdout
    assert "in the run it was: match" in done.stderr
    tested = altered("backtest", altered.run)
    assert tested.returncode == 1
    assert "no evidence for its verdict" in tested.stdout and "step social: result altered (added)" in tested.stdout
    assert f"tick {altered.tick}: match in the run, mismatch here" in tested.stdout
    assert "16/16 ticks, 0:00 left" in tested.stderr
    document = json.loads(altered("backtest", "--json").stdout)
    assert "social" in {found["step"] for found in document["findings"]}


def test_limits_are_proposed_or_said_to_be_unknown(project: Project) -> None:
    """16 ticks are too few for a p99, and enough for the median of a step of each tick, whose line can go into
    .env."""
    few = project("timeouts", "suggest")
    assert few.returncode == 0 and all(line.startswith("# ") for line in few.stdout.splitlines())
    assert "observations are too few for its p99: it takes 299" in few.stdout
    found = project("timeouts", "suggest", project.run, "--quantile", "0.5", "--json")
    monologue = json.loads(found.stdout)["steps"]["monologue"]
    assert monologue["n"] >= 5 and monologue["limit_now_s"] == 6000.0
    assert monologue["limit_s"] >= monologue["bound_s"] > 0
    lines = project("timeouts", "suggest", "--quantile", "0.5").stdout.splitlines()
    assert f"TICKOVER_STEP_TIMEOUTS__MONOLOGUE={monologue['limit_s']:g}" in lines


def test_wrong_input_is_named(project: Project) -> None:
    """A run or tick that is not there, and a share that is none: exit code 2 and nothing on standard output."""
    for arguments, said in (
        (["replay", "nothing", "3"], "there is no run 'nothing'"),
        (["replay", project.run, "99"], f"run {project.run} has no tick 99"),
        (["replay", project.run, "soon"], "soon"),
        (["backtest", "nothing"], "there is no run 'nothing'"),
        (["timeouts", "suggest", "nothing"], "there is no run 'nothing'"),
        (["timeouts", "suggest", "--quantile", "2"], "quantile"),
    ):
        done = project(*arguments)
        assert done.returncode == 2 and said in done.stderr and done.stdout == "", (arguments, done.stderr)
