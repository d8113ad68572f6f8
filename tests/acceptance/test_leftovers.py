"""What a finished migration leaves over, on the command line: named, not deleted, and not needed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from tests.conftest import ROOT, clean_environment, data_directory

# Each command is a process that loads the whole of it.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def environment(calm_model: str) -> Iterator[dict[str, str]]:
    """A user with servers that stay up."""
    with data_directory("tickover-leftovers-") as data_dir:
        found = clean_environment(TICKOVER_DATA_DIR=str(data_dir), TICKOVER_MODEL_URL=calm_model)
        said = run(found, "servers", "start")
        yield found | {"URL": next(line[13:] for line in said.splitlines() if line.startswith("DATABASE_URL="))}


def run(environment: dict[str, str], *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "cli.py", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True,
        check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def _do(environment: dict[str, str], how: str) -> None:
    """Do what was said: remove a folder of the data directory, or run a statement."""
    statement = re.fullmatch(r"psql \"\$DATABASE_URL\" -c '(.*)'", how)
    if statement is None:
        folder = Path(how.removeprefix("rm -r "))
        assert Path(environment["TICKOVER_DATA_DIR"]) in folder.parents
        shutil.rmtree(folder)
        return
    with closing(psycopg2.connect(environment["URL"])) as connection, connection, connection.cursor() as do:
        do.execute(statement[1])


def test_leftovers_are_named_when_the_quiet_period_is_over_and_not_needed(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """1 while the old system is in charge, 4 before the time, which is said; then all is listed, nothing is gone, and
    what is deleted as it is said is missed by nobody: the new system goes on."""
    assert "nothing may be deleted" in run(environment, "leftovers", code=1)
    run(environment, "shadow", "--ticks", "2", "--every", "0s")
    run(environment, "switchover", "--yes", "--force", "--reason", "trial")
    assert "not yet: it is over at" in run(environment, "leftovers", code=4)
    early: dict[str, Any] = json.loads(run(environment, "leftovers", "--json", code=4))
    assert (early["quiet_hours"], early["is_over"], early["leftovers"]) == (168.0, False, [])
    text = (ROOT / "reports" / "policies" / "scaled.toml").read_text(encoding="utf-8")
    (tmp_path / "now.toml").write_text(text.replace("quiet_hours = 1", "quiet_hours = 0"))
    served = run(environment, "serve", "--ticks", "1", "--every", "0")
    assert "async done" in served
    said = run(environment, "leftovers", "--policy", str(tmp_path / "now.toml"))
    found = json.loads(run(environment, "leftovers", "--policy", str(tmp_path / "now.toml"), "--json"))["leftovers"]
    assert {each["kind"] for each in found} == {"code", "tables", "home", "copies", "backup"}
    for each in found:
        assert each["how"] in said
    assert [each["what"] for each in found if each["kind"] == "code"][:3] == [
        str(ROOT / name) for name in ("legacy", "shadow", "reports")
    ]
    for each in found:
        if each["kind"] in ("tables", "copies", "backup"):
            _do(environment, each["how"])
    assert "async done" in run(environment, "serve", "--ticks", "1", "--every", "0")
    left = json.loads(run(environment, "leftovers", "--policy", str(tmp_path / "now.toml"), "--json"))["leftovers"]
    assert {each["kind"] for each in left} == {"code", "tables", "home"}
    assert any("0 executions that counted for nothing" in each["what"] for each in left)
