"""The systemd units: sound by systemd's own judgement, and true to the commands, settings and limits there are."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from async_tick.limits import HARD_MARGIN_S
from tickover.ground.settings import Settings
from tickover.loading import load_workload

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "deploy" / "systemd"
INSTALLED = "/srv/tickover"
# How much a service may be exposed, of 100; systemd's own scale, where one without any limits has 96.
EXPOSURE = 20

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here (Debian's package systemd has it)"
)


def _names() -> list[str]:
    return sorted(path.name for path in UNITS.glob("tickover*") if path.suffix in (".service", ".timer", ".target"))


def _service(name: str) -> configparser.SectionProxy:
    # A unit may name a key several times; here the last one is enough.
    parser = configparser.ConfigParser(interpolation=None, strict=False, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(UNITS / name, encoding="utf-8")
    return parser["Service"]


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """A copy of the units in which Tickover is installed where this interpreter is."""
    for name in _names():
        text = (UNITS / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace(f"{INSTALLED}/.venv/bin", str(Path(sys.executable).parent)))
    return tmp_path


def _analyze(units: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments], cwd=units, env={"SYSTEMD_UNIT_PATH": f"{units}:", "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def _instance(name: str) -> str:
    return "./" + name.replace("@.", "@critical.")


@needs_systemd
def test_systemd_finds_no_fault(units: Path) -> None:
    """`systemd-analyze verify` accepts all units without a word, and does not accept a misspelt one."""
    done = _analyze(units, "verify", "--man=no", *map(_instance, _names()))
    assert (done.returncode, done.stderr) == (0, "")
    loop = units / "tickover-loop.service"
    loop.write_text(loop.read_text().replace("KillMode=mixed", "KillMood=mixed"))
    assert "KillMood" in _analyze(units, "verify", "--man=no", "./tickover-loop.service").stderr


@needs_systemd
@pytest.mark.parametrize("name", [name for name in _names() if name.endswith(".service")])
def test_a_service_is_locked_down(units: Path, name: str) -> None:
    """systemd's own measure of exposure is low for each service."""
    done = _analyze(units, "security", "--offline=true", f"--threshold={EXPOSURE}", _instance(name))
    if "unrecognized option" in done.stderr or "Invalid" in done.stderr:
        pytest.skip("this systemd-analyze cannot judge a unit file")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr


@pytest.mark.parametrize("name", [name for name in _names() if name.endswith(".service")])
def test_a_service_starts_a_command_that_there_is(name: str) -> None:
    """What ExecStart names is a command of Tickover, or of Celery on its application."""
    from cli import main

    started = _service(name)["ExecStart"]
    found = re.search(rf"{INSTALLED}/.venv/bin/(tickover|celery) ([^\"]*)", started)
    assert found is not None, started
    program, arguments = found[1], found[2].split()
    if program == "celery":
        assert arguments[:3] == ["-A", "async_tick.celery_app", "flower"]
        return
    command = main.get_command(main.make_context("tickover", [], resilient_parsing=True), arguments[0])
    assert command is not None, started


def test_a_stop_leaves_time_for_what_runs() -> None:
    """SIGTERM goes to the main process alone, and the time until SIGKILL is longer than the longest step of the job
    that ships with Tickover, or the longest tick of its old system."""
    workflow = load_workload("digital_being:heavy_tick")
    worker, loop = _service("tickover-worker@.service"), _service("tickover-loop.service")
    assert worker["KillMode"] == loop["KillMode"] == "mixed"
    assert float(worker["TimeoutStopSec"]) > max(step.timeout_s for step in workflow.steps) + HARD_MARGIN_S
    assert float(loop["TimeoutStopSec"]) > 20.0 * len(workflow.steps)


def test_each_setting_of_the_environment_file_is_read() -> None:
    """Each variable is a setting of Tickover, an option of the command that the unit starts, or another program's."""
    from cli import main

    known = {
        "DATABASE_URL",
        "CELERY_BROKER_URL",
        "REDIS_URL",
        "PGPASSWORD",
        "FLOWER_BASIC_AUTH",
        "TICKOVER_MODEL_URL",
    }
    known |= {f"TICKOVER_{name.upper()}" for name in Settings.model_fields}
    context = main.make_context("tickover", [], resilient_parsing=True)
    for name in ("serve", "worker"):
        command = main.get_command(context, name)
        assert command is not None
        known |= {f"TICKOVER_{name.upper()}_{option.name.upper()}" for option in command.params if option.name}
    for path in UNITS.glob("*.env"):
        named = re.findall(r"^([A-Z_]+)=", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert named and set(named) <= known, set(named) - known
