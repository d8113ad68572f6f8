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


# What may end with another code than 0: a verdict is not READY after five ticks, and nothing is left over
# while the old system is in charge.
VERDICTS = {"report": (0, 1, 4), "switchover": (0, 1, 4), "leftovers": (1,)}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("document", ["deployment.md", "operators-guide.md"])
def test_each_line_of_a_guide_runs(document: str) -> None:
    """In the order in which they stand, each ends well; what keeps running is there to the end."""
    lines = _lines(document)
    assert len(lines) > 12
    home = Path(tempfile.mkdtemp(prefix="tickover-docs-"))
    home.chmod(0o755)
    environment = clean_environment(
        TICKOVER_DATA_DIR=str(home / "data"), TICKOVER_TIME_SCALE="0.01",
        PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    )  # fmt: skip
    # The deployment guide is read in the project's directory, for it types `python cli.py`.
    place = ROOT if document == "deployment.md" else home
    running: list[tuple[str, subprocess.Popen[bytes]]] = []
    try:
        for line in lines:
            if line.endswith(" &"):
                with (home / f"{len(running)}.log").open("wb") as log:
                    command = shlex.split(line.removesuffix(" &"))
                    process = subprocess.Popen(
                        command, cwd=place, env=environment, stdout=log, stderr=log, start_new_session=True
                    )
                running.append((line, process))
                if " worker" in line:
                    _until_ready(environment)
                continue
            done = subprocess.run(
                line, shell=True, cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=240
            )
            may_end_with = (0,) if place == ROOT else VERDICTS.get(line.split()[1], (0,))
            assert done.returncode in may_end_with, f"{line}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}"
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
        for data_dir in ("data", "restored"):
            stop = {**environment, "TICKOVER_DATA_DIR": str(home / data_dir)}
            subprocess.run([sys.executable, "cli.py", "servers", "stop", "--force"], cwd=ROOT, env=stop, check=False)
        shutil.rmtree(home)


def _typed(document: Path) -> set[tuple[str, ...]]:
    """Every `tickover ...` of a document, from its code: the words up to what ends the command."""
    text = document.read_text(encoding="utf-8")
    code = re.findall(r"```[a-z]*\n(.*?)```", text, re.DOTALL) + re.findall(r"`([^`\n]+)`", text)
    found = re.findall(
        r"(?m)^(?:\$ )?(?:[A-Z_]+=\S+ )*(?:tickover|tickover-ctl|python cli\.py) ([^#&|;()\n]+)", "\n".join(code)
    )
    return {tuple(words.replace("...", "").split()) for words in found}


@pytest.mark.parametrize("document", sorted(path.name for path in DOCS.glob("*.md")))
def test_each_command_of_a_document_exists(document: str) -> None:
    """Commands, their subcommands and their options are such as there are."""
    import click

    from cli import main

    context = main.make_context("tickover", [], resilient_parsing=True)
    for words in _typed(DOCS / document):
        # A placeholder, an option, and the author of what a guardrail does.
        if words[0] in ("COMMAND", "guardrail") or words[0].startswith("-"):
            continue
        command = main.get_command(context, words[0])
        assert command is not None, f"{document}: tickover {' '.join(words)}"
        alone = len(words) == 1 or words[1].startswith("-")
        if isinstance(command, click.Group) and not (command.invoke_without_command and alone):
            assert len(words) > 1, f"{document}: tickover {' '.join(words)}"
            command = command.get_command(context, words[1])
            assert command is not None, f"{document}: tickover {' '.join(words)}"
        known = {name for option in command.params for name in option.opts} | {"--help"}
        used = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert used <= known, f"{document}: tickover {' '.join(words)}"


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
