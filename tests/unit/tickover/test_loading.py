"""Loading a workload by name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tickover import Workflow
from tickover.errors import WorkloadNotFound
from tickover.loading import load_object, load_workload

SOURCE = """
from tickover import Step, Workflow
job = Workflow(name="job", version="1", steps=[Step(name="a", run=print)])
class Deep:
    job = job
number = 3
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with a workload, which is the working directory."""
    (tmp_path / "loading_sample.py").write_text(SOURCE)
    (tmp_path / "loading_broken.py").write_text("import a_library_that_nobody_has\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    yield tmp_path
    for name in ("loading_sample", "loading_broken"):
        sys.modules.pop(name, None)


def test_a_workload_in_the_working_directory_is_found(project: Path) -> None:
    """`module:name` works from the directory that holds the module; the name may have dots."""
    job = load_workload("loading_sample:job")
    assert isinstance(job, Workflow)
    assert load_object("loading_sample:Deep.job") is job


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("loading_sample", "not of the form module:name"),
        (":job", "not of the form module:name"),
        ("loading_sample:", "not of the form module:name"),
        ("loading_nowhere:job", "there is no module 'loading_nowhere'.*set PYTHONPATH"),
        ("loading_sample.sub:job", "there is no module 'loading_sample.sub'"),
        ("loading_sample:jobs", "has no 'jobs'"),
        ("loading_broken:job", "needs the module 'a_library_that_nobody_has', which is not installed"),
        ("loading_sample:number", "is a int, not a tickover.Workflow"),
    ],
)
def test_what_is_wrong_with_a_reference_is_said(project: Path, reference: str, message: str) -> None:
    """Each mistake has a message of its own, with what would do."""
    with pytest.raises(WorkloadNotFound, match=message):
        load_workload(reference)
