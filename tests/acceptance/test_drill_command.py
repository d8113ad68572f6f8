"""Drills through the command line: real servers, workers and runners are killed, paused and restarted."""

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

import psutil
import pytest

from shadow.faults import KINDS
from tests.conftest import ROOT, clean_environment, data_directory, scripted_model

# Kinds that take nothing from the old system: it waits for a locked file, and an optional step's error stays in it.
HARMLESS = {"database_restart", "permanent_error"}


class Commands:
    """Commands of a user with a data directory of its own."""

    def __init__(self, data_dir: Path, **settings: str) -> None:
        self.data_dir = data_dir
        self.environment = clean_environment(TICKOVER_DATA_DIR=str(data_dir), **settings)

    def __call__(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "cli.py", *arguments], cwd=ROOT, env=self.environment, capture_output=True, text=True,
            check=False, timeout=400,
        )  # fmt: skip
        assert done.returncode == code, done.stderr[-3000:]
        return done


@pytest.fixture(scope="module")
def user() -> Iterator[Commands]:
    """A user who has made one run of eight ticks, and read its report."""
    # No call takes long enough to bring a step near its limit by itself.
    with data_directory("tickover-drills-") as data_dir, scripted_model(chat_s=0.04, embed_s=0.005) as model:
        commands = Commands(data_dir, TICKOVER_MODEL_URL=model)
        commands("servers", "start")
        commands("shadow", "--ticks", "8", "--every", "0s", "--time-scale", "0.02")
        commands("report", code=4)
        yield commands


@pytest.fixture(scope="module")
def drilled(user: Commands) -> dict[str, dict[str, Any]]:
    """What one trial of each kind came to, by kind."""
    done = json.loads(user("drill", "--trials", "1", "--seed", "11", "--json").stdout)
    assert done["evidence"] is True
    return {trial["kind"]: trial | {"drill": done["drill"]} for trial in done["trials"]}


@pytest.mark.timeout(500)
@pytest.mark.parametrize("kind", KINDS)
def test_the_new_system_recovers_from_each_kind(drilled: dict[str, dict[str, Any]], kind: str) -> None:
    """As an undisturbed run within the kind's window, nothing lost or doubled, no stale commit accepted."""
    found = drilled[kind]["async"]
    assert found["recovered"], found["reason"]
    assert (found["lost"], found["doubled"], found["half_done"], found["stale"]) == (0, 0, 0, 0)
    if kind != "permanent_error":
        assert found["same_state"] and found["outcome"] == "done"


@pytest.mark.timeout(500)
def test_a_zombie_is_refused(drilled: dict[str, dict[str, Any]]) -> None:
    """The process that was paused beyond its lease says something of its step when it wakes, and is refused."""
    found = drilled["paused_process"]["async"]
    assert found["refused"] >= 1 and found["again"] >= 1 and found["seconds"] > 0


@pytest.mark.timeout(500)
def test_the_old_system_is_reported_as_it_is(drilled: dict[str, dict[str, Any]]) -> None:
    """It loses the tick in which its process or its runner is killed; kinds without a counterpart leave no row."""
    assert {kind for kind, trial in drilled.items() if "legacy" not in trial} == {
        name for name, kind in KINDS.items() if not kind.on_legacy
    }
    for kind in ("killed_process", "killed_runner"):
        found = drilled[kind]["legacy"]
        assert (found["outcome"], found["recovered"]) == ("lost", False)
        assert not found["same_state"]
    for kind in set(KINDS) - HARMLESS:
        assert not drilled[kind].get("legacy", {}).get("recovered"), kind


@pytest.mark.timeout(500)
def test_a_verdict_that_was_given_before_a_drill_stands(user: Commands, drilled: dict[str, dict[str, Any]]) -> None:
    """Computed again it is the same, and the trials since are named."""
    assert drilled
    said = user("report", "--verify").stdout
    assert "13 trials of drills were begun since" in said and "it is the same" in said


@pytest.mark.timeout(500)
def test_drills_join_the_report(user: Commands, drilled: dict[str, dict[str, Any]]) -> None:
    """The report of the run counts each kind; the policy for production counts them as drills done."""
    report = json.loads(user("report", "--json", code=4).stdout)
    assert {fault["kind"]: fault["candidate_recovered"] for fault in report["faults"]} == dict.fromkeys(KINDS, 1)
    none_in_old = {fault["kind"] for fault in report["faults"] if fault["control_recovered"] is None}
    assert none_in_old == {name for name, kind in KINDS.items() if not kind.on_legacy}
    gates = json.loads(user("report", "--policy", "production", "--json", code=4).stdout)["gates"]
    assert {gate["name"]: gate["have"] for gate in gates if gate["name"].startswith("fault/")} == {
        f"fault/{kind}": 1 for kind in KINDS
    }


@pytest.mark.timeout(500)
def test_a_trial_is_shown_and_run_again(user: Commands, drilled: dict[str, dict[str, Any]]) -> None:
    """`diff DRILL TRIAL` shows it; its own line strikes the same tick again, and adds nothing to the evidence."""
    trial = drilled["transient_error"]
    shown = user("diff", trial["drill"], str(trial["trial"])).stdout
    assert f"FAULT transient_error in {trial['step']}" in shown and "attempt 2" in shown
    again = json.loads(
        user("drill", "--kind", "transient_error", "--step", trial["step"], "--seed", str(trial["seed"]),
             "--json").stdout
    )  # fmt: skip
    assert again["evidence"] is False
    assert [again["trials"][0][name] for name in ("kind", "step", "tick", "seed")] == [
        trial[name] for name in ("kind", "step", "tick", "seed")
    ]
    report = json.loads(user("report", "--json", code=4).stdout)
    assert {fault["trials"] for fault in report["faults"]} == {1}


@pytest.mark.timeout(300)
def test_an_interrupted_drill_keeps_what_it_has_and_goes_on(user: Commands, tmp_path: Path) -> None:
    """Ctrl-C after the first trial: it says how to go on, leaves no process behind, and --resume does the rest."""
    plan = tmp_path / "two.toml"
    plan.write_text('format = 1\ntrials = 1\n[[fault]]\nkind = "lost_hint"\n[[fault]]\nkind = "duplicated_hint"\n')
    errors = tmp_path / "errors"
    with errors.open("w") as log:
        begun = subprocess.Popen(
            [sys.executable, "cli.py", "drill", "--faults", str(plan)], cwd=ROOT, env=user.environment, stderr=log,
            stdout=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    deadline = time.monotonic() + 120
    while "again:" not in errors.read_text():
        assert time.monotonic() < deadline and begun.poll() is None, errors.read_text()
        time.sleep(0.05)
    children = psutil.Process(begun.pid).children(recursive=True)
    os.kill(begun.pid, signal.SIGINT)
    assert begun.wait(60) == 130
    gone, alive = psutil.wait_procs(children, 20)
    assert len(gone) >= 4 and not alive
    said = errors.read_text()
    name = said.split("drill ")[1].split()[0]
    assert f"tickover drill --resume {name}" in said
    resumed = json.loads(user("drill", "--resume", name, "--json").stdout)
    assert [sorted(trial.keys() & {"async"}) for trial in resumed["trials"]] == [["async"], ["async"]]


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["drill", "nothing"], "there is no run 'nothing'"),
        (["drill", "--faults", "nowhere.toml"], "nowhere.toml cannot be read"),
        (["drill", "--kind", "hag"], "did you mean 'hang'?"),
        (["drill", "--kind", "lost_hint", "--step", "social"], "the steps that it can strike are monologue"),
        (["drill", "--step", "social"], "name its --kind too"),
        (["drill", "--resume", "nothing"], "there is no drill 'nothing'"),
        (["drill", "--resume", "nothing", "--trials", "3"], "leave out trials"),
        (["drill", "--trials", "0"], "--trials"),
        (["drill", "--time-scale", "0"], "--time-scale"),
        (["faults", "show", "hag"], "did you mean 'hang'?"),
    ],
)
def test_wrong_input_is_named_and_nothing_is_done(user: Commands, arguments: list[str], said: str) -> None:
    """The error names the culprit on stderr, the exit code is 2, stdout stays empty."""
    done = user(*arguments, code=2)
    assert said in done.stderr and done.stdout == "" and "Traceback" not in done.stderr


@pytest.mark.timeout(120)
def test_without_a_run_there_is_nothing_to_drill() -> None:
    """The error says what makes a run."""
    with data_directory("tickover-drills-") as data_dir:
        done = Commands(data_dir)("drill", code=2)
    assert "there is no run yet" in done.stderr


def test_the_kinds_are_listed() -> None:
    """Each kind by name, with what it does; one in full."""
    with data_directory("tickover-drills-") as data_dir:
        commands = Commands(data_dir)
        assert [line.split()[0] for line in commands("faults", "list").stdout.splitlines()] == list(KINDS)
        assert "within 15 s" in commands("faults", "show", "killed_process").stdout
