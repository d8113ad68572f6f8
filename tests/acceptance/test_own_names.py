"""A project whose own packages have the names of Tickover's: each process runs the right ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT, clean_environment, data_directory

PROJECT = ROOT / "examples" / "own_names"


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """The environment of an engineer with an empty data directory."""
    with data_directory("tickover-names-") as data_dir:
        yield clean_environment(TICKOVER_DATA_DIR=str(data_dir), TICKOVER_TIME_SCALE="0.01")


def tickover(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of Tickover's, run in her project's directory, whose `cli.py` is hers."""
    return subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), *arguments], cwd=PROJECT, env=environment, capture_output=True,
        text=True, check=False, timeout=100,
    )  # fmt: skip


def test_her_packages_and_ours_do_not_collide(environment: dict[str, str]) -> None:
    """Her `legacy`, `reports`, `services`, `shadow` and `cli.py` are what her job runs: every tick matches."""
    done = tickover(environment, "shadow", "--workload", "port:newsletter", "--ticks", "6", "--every", "0s", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"] == {"match": 6}
    seen = json.loads(tickover(environment, "diff", json.loads(done.stdout)["run"], "3", "--json").stdout)
    texts = {effect["payload"]["text"] for effect in seen["observations"]["control"]["effects"]}
    assert texts == {"[No. 4] Dear Ada and Grace, nothing happened."}


@pytest.mark.parametrize("system", ["legacy", "async"])
def test_once_runs_either_system_of_hers(environment: dict[str, str], system: str) -> None:
    """One tick through one system, from her directory."""
    done = tickover({**environment, "TICKOVER_WORKLOAD": "port:newsletter"}, "once", "2", "--system", system)
    assert done.returncode == 0, done.stderr
    assert "[No. 3]" in done.stdout


def test_our_packages_are_ours_again_after_hers_were_loaded() -> None:
    """In a runner that has loaded her job, `reports` and `shadow` are still Tickover's."""
    script = (
        "import reports, shadow\nfrom tickover.loading import load_workload\n"
        "assert load_workload('port:newsletter').name == 'newsletter'\n"
        "import reports.verdict, shadow.compare, sys\n"
        "assert not hasattr(shadow, 'OWNER') and 'reports.layout' not in sys.modules\n"
    )
    environment = {**clean_environment(), "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1", "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
