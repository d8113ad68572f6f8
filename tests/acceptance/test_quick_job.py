"""A job of a few milliseconds becomes READY, by what the commands say of it alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, clean_environment


@pytest.fixture
def project() -> Iterator[Path]:
    """An empty directory of a user, with servers of its own while the test runs."""
    directory = Path(tempfile.mkdtemp(prefix="tickover-quick-"))
    directory.chmod(0o755)
    yield directory
    tickover(directory, "servers", "stop", "--force")
    shutil.rmtree(directory)


def tickover(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What the command ended with and wrote."""
    return subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), *arguments], cwd=project,
        env=clean_environment(TICKOVER_WORKLOAD="tests.cases.meter:workflow"), capture_output=True, text=True,
        check=False, timeout=100,
    )  # fmt: skip


def run_of(project: Path, *arguments: str) -> dict[str, Any]:
    """The run that these options of `shadow` made."""
    done = tickover(project, "shadow", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    run: dict[str, Any] = json.loads(done.stdout)
    return run


@pytest.mark.timeout(240)
def test_a_job_of_milliseconds_becomes_ready(project: Path) -> None:
    """110 ticks a hundred times faster than real time are READY under `scaled`; 40 at scale 1 are not under
    `production`, which wants a day, and are under a policy that does not."""
    assert tickover(project, "servers", "start").returncode == 0
    assert run_of(project, "--ticks", "110", "--every", "10s", "--time-scale", "0.01")["counts"] == {"match": 110}
    report = tickover(project, "report", "--fail-under", "READY")
    assert report.returncode == 0, report.stdout + report.stderr
    assert "  READY (scaled to 0.01 of real time), policy scaled" in report.stdout

    assert run_of(project, "--ticks", "40", "--every", "0.25s")["counts"] == {"match": 40}
    report = tickover(project, "report")
    assert report.returncode == 4 and "hours of real time seen, 24 needed" in report.stdout, report.stdout
    # So many ticks may overrun, so that what else the machine does is not judged here.
    policy = (ROOT / "reports/policies/production.toml").read_text(encoding="utf-8")
    for told, instead in (
        ('name = "production"', 'name = "quick"'), ("hours = 24.0", "hours = 0"),
        ("ticks_per_stratum = 20", "ticks_per_stratum = 0"), ("trials_per_fault = 5", "trials_per_fault = 0"),
        ("budget = 0.005", "budget = 0.2"), ("budget = 0.01", "budget = 0.4"), ("budget = 0.02", "budget = 0.2"),
    ):  # fmt: skip
        assert told in policy
        policy = policy.replace(told, instead)
    (project / "quick.toml").write_text(policy, encoding="utf-8")
    report = tickover(project, "report", "--policy", "quick.toml")
    assert report.returncode == 0, report.stdout + report.stderr
    assert "  READY, policy quick" in report.stdout
