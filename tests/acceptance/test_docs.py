"""The commands of the guides, run as they stand there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT, clean_environment

DOCS = ROOT / "docs"


def _lines(document: str) -> list[str]:
    """What stands after `$` in the console blocks."""
    text = (DOCS / document).read_text(encoding="utf-8")
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]


@pytest.mark.timeout(300)
def test_each_line_of_the_deployment_guide_runs() -> None:
    """In the order in which they stand, each ends with 0; what keeps running is there to the end."""
    lines = _lines("deployment.md")
    assert len(lines) > 12
    data_dir = Path(tempfile.mkdtemp(prefix="tickover-docs-"))
    data_dir.chmod(0o755)
    environment = clean_environment(
        TICKOVER_DATA_DIR=str(data_dir), TICKOVER_TIME_SCALE="0.01",
        PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    )  # fmt: skip
    running: list[tuple[str, subprocess.Popen[bytes]]] = []
    try:
        for line in lines:
            if line.endswith(" &"):
                with (data_dir / f"{len(running)}.log").open("wb") as log:
                    command = shlex.split(line.removesuffix(" &"))
                    process = subprocess.Popen(
                        command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
                    )
                running.append((line, process))
                if " worker" in line:
                    _until_ready(environment)
                continue
            done = subprocess.run(
                line, shell=True, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=90
            )
            assert done.returncode == 0, f"{line}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}"
            assert done.stdout or done.stderr, f"{line} said nothing"
        for line, process in running:
            assert process.poll() is None, f"{line} ended by itself"
    finally:
        for _, process in running:
            process.send_signal(signal.SIGTERM)
        for _, process in running:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        subprocess.run([sys.executable, "cli.py", "servers", "stop"], cwd=ROOT, env=environment, check=False)
        shutil.rmtree(data_dir)


def _until_ready(environment: dict[str, str]) -> None:
    deadline = time.monotonic() + 40
    ping = [sys.executable, "-m", "celery", "-A", "async_tick.celery_app", "inspect", "ping", "--timeout=2"]
    while subprocess.run(ping, cwd=ROOT, env=environment, capture_output=True, check=False).returncode != 0:
        assert time.monotonic() < deadline, "the worker did not answer"


def test_each_setting_of_the_guide_exists() -> None:
    """A setting that the guide names is one that is read."""
    from tickover.ground.settings import Settings

    text = (DOCS / "deployment.md").read_text(encoding="utf-8")
    known = {name.upper() for name in Settings.model_fields}
    named = set(re.findall(r"`TICKOVER_([A-Z_]+?)(?:__[A-Z_]+)?(?:=[^`]*)?`", text))
    assert named
    assert named <= known, named - known


def test_each_link_leads_somewhere() -> None:
    """Links to other files of the project point at files that are there."""
    broken = []
    for path in [*DOCS.glob("*.md"), *ROOT.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
            if "://" not in target and not (path.parent / target).exists():
                broken.append(f"{path.name}: {target}")
    assert not broken
