"""The shape of the project: who imports whom, how long files are, and what the text does not say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = {"tickover", "async_tick", "shadow", "reports", "digital_being", "legacy", "migrations", "examples", "cli"}
LONGEST = 350
# Files that are longer, each with its reason.
LONGER = {
    "shadow/store.py": "all SQL of the runs stands in one module",
    "tests/integration/test_servers.py": "every way to lose a server, beside the others",
}


def _tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def _imported(code: str, **environment: str) -> set[str]:
    """Which of our top packages a fresh interpreter has imported after running the code."""
    script = f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip
    return set(done.stdout.split()) & OURS


def test_imports_run_one_way() -> None:
    """The import contracts of pyproject.toml hold."""
    found = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout


def test_a_worker_imports_only_the_contract_and_the_engine(tmp_path: Path) -> None:
    """A worker's application loads `tickover`, `async_tick` and the workload: a user's own `legacy`, `reports` or
    `cli` cannot collide with ours."""
    urls = {"DATABASE_URL": "postgresql://localhost:1/none", "CELERY_BROKER_URL": "redis://localhost:1/0"}
    workload = {"TICKOVER_WORKLOAD": "tests.integration.engine_samples:seven", "TICKOVER_DATA_DIR": str(tmp_path)}
    code = "import async_tick.celery_app, async_tick.sweeper, async_tick.steps"
    assert _imported(code, **urls, **workload) == {"tickover", "async_tick"}


def test_a_worker_loads_no_orm(tmp_path: Path) -> None:
    """SQLAlchemy and Alembic stay out of workers, whose memory counts once per process."""
    urls = {"DATABASE_URL": "postgresql://localhost:1/none", "CELERY_BROKER_URL": "redis://localhost:1/0"}
    script = "import async_tick.celery_app, sys\nprint('sqlalchemy' in sys.modules, 'alembic' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "TICKOVER_DATA_DIR": str(tmp_path), **urls},
    )  # fmt: skip
    assert done.stdout.split() == ["False", "False"]


def test_the_legacy_process_imports_only_the_contract() -> None:
    """The process that runs a user's old system loads `tickover` alone of ours."""
    assert _imported("import tickover.host") == {"tickover"}


def test_no_file_is_too_long() -> None:
    """A Python file has at most 350 lines, but for those with a reason."""
    long = {
        str(path.relative_to(ROOT)): count
        for path in _tracked()
        if path.suffix == ".py" and (count := len(path.read_text(encoding="utf-8").splitlines())) > LONGEST
    }
    assert long.keys() <= LONGER.keys(), long


def test_the_project_names_no_machine() -> None:
    """No tracked text has a path into someone's home or work directory, or the address of a package registry."""
    forbidden = re.compile(
        r"/(?:root|home/[a-z]+|work|opt)/|--(?:extra-)?index-url|pypi\.org/simple|files\.pythonhosted"
    )
    here = Path(__file__).resolve()
    found = []
    for path in _tracked():
        if path.resolve() == here:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in forbidden.finditer(text)]
    assert not found


def test_the_schema_has_one_line_of_history() -> None:
    """Each revision follows another one, and none is followed by two: `down_revision` of a new one is the newest that
    there was."""
    from tickover.ground import migrate

    assert migrate.head()
