"""What a finished migration leaves behind: without the old system, the comparison and the reports the being lives."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import clean_environment

ROOT = Path(__file__).resolve().parents[2]
GONE = ("legacy", "shadow", "reports")
KEPT = ("async_tick", "tickover", "digital_being", "migrations", "cli.py", "pyproject.toml")
SUPPORT = tuple(
    f"tests/integration/{name}"
    for name in ("__init__.py", "conftest.py", "engine_samples.py", "engine_support.py", "modules.py")
)
# What tests the rest: everything of these folders that imports nothing of what is gone.
TESTS = ("tests/unit/tickover", "tests/integration/test_engine.py")
# The source tree may be installed in the environment, where what was deleted would still be found.
ONLY_HERE = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
sys.path[:] = [entry for entry in sys.path if "__editable__" not in entry]
"""


@pytest.fixture
def remains(calm_model: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """A copy of the tree without what a finished migration deletes, and the environment to run it in."""
    tree = Path(tempfile.mkdtemp(prefix="tickover-deleted-"))
    tree.chmod(0o755)
    ignore = shutil.ignore_patterns("__pycache__")
    for name in KEPT:
        source = ROOT / name
        shutil.copytree(source, tree / name, ignore=ignore) if source.is_dir() else shutil.copy(source, tree / name)
    (tree / "tests" / "unit").mkdir(parents=True)
    (tree / "tests" / "integration").mkdir()
    for name in ("tests/__init__.py", "tests/conftest.py", *SUPPORT, *TESTS):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=ignore)
        else:
            shutil.copy(source, tree / name)
    (tree / "only_here").mkdir()
    (tree / "only_here" / "sitecustomize.py").write_text(ONLY_HERE)
    data_dir = tree / "data"
    data_dir.mkdir(mode=0o755)
    environment = clean_environment(
        TICKOVER_DATA_DIR=str(data_dir), TICKOVER_MODEL_URL=calm_model,
        PYTHONPATH=os.pathsep.join([str(tree), str(tree / "only_here")]),
    )  # fmt: skip
    yield tree, environment
    subprocess.run([sys.executable, "cli.py", "servers", "stop", "--force"], cwd=tree, env=environment, check=False)
    shutil.rmtree(tree)


def _run(remains: tuple[Path, dict[str, str]], *arguments: str) -> str:
    tree, environment = remains
    done = subprocess.run(
        [sys.executable, *arguments], cwd=tree, env=environment, capture_output=True, text=True, check=False,
        timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_the_being_lives_without_its_past(remains: tuple[Path, dict[str, str]]) -> None:
    """Loop, worker, checkpoints and delivery work, and the commands of what is gone are not offered."""
    found = _run(remains, "-c", f"import importlib.util as u; print([u.find_spec(n) for n in {GONE!r}])")
    assert found.strip() == "[None, None, None]"
    offered = _run(remains, "cli.py", "--help")
    assert "serve" in offered and "worker" in offered
    assert "shadow" not in offered.split("Commands:")[1] and "report" not in offered.split("Commands:")[1]
    served = _run(remains, "cli.py", "serve", "--ticks", "2", "--every", "0")
    assert [line.split(":")[0] for line in served.splitlines()] == ["tick 0", "tick 1"]
    assert "main/1/async/control/1" in _run(remains, "cli.py", "checkpoints")
    assert "goal_selection" in _run(remains, "cli.py", "checkpoints", "main/1/async/control/1")
    assert _run(remains, "cli.py", "status")
    home = remains[0] / "data" / "home" / "main"
    assert len(list((home / "notes").glob("*.md"))) == 2
    assert len(list((home / "outbox").glob("*.json"))) == 2


def test_its_tests_pass(remains: tuple[Path, dict[str, str]]) -> None:
    """The unit tests of what is left, and the engine's on real servers and workers, need nothing of what is gone."""
    said = _run(remains, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS)
    assert " passed" in said and "failed" not in said
