"""The notebook: notes of many processes in one file, none lost and none torn."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shadow.ledger import Note, Notebook
from tickover.canonical import digest
from tickover.effects import Effect
from tickover.errors import ConfigurationError

_WRITER = """
import sys
from pathlib import Path
from shadow.ledger import Notebook
book = Notebook(Path(sys.argv[1]))
for tick in range(50):
    book.told(sys.argv[2], tick, "async", "done")
"""


def test_processes_at_once_lose_no_note(tmp_path: Path) -> None:
    """Four processes write at once: each note is there once, and those of one writer in its order."""
    path = tmp_path / "notebook"
    writers = [subprocess.Popen([sys.executable, "-c", _WRITER, str(path), f"run{at}"]) for at in range(4)]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    notes = Notebook(path).read()
    for at in range(4):
        assert [note.tick for note in notes if note.run == f"run{at}"] == list(range(50))
    assert len(notes) == 200


def test_each_kind_of_note_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Documents stand as their digests, whatever characters they have."""
    book = Notebook(tmp_path / "notebook")
    effect = Effect(step="s", position=0, number=0, kind="k", payload={"text": "zwei\nZeilen"}, key="0/s/k/0")
    book.delivered(effect, "run/0/s/k/0")
    book.legacy_began("run", 1, {"a": 1})
    book.legacy_began("run", 2)
    book.legacy_ended("run", 1)
    book.told("run", 1, "legacy", "done")
    assert book.read() == [
        Note(kind="delivered", key="run/0/s/k/0", payload=digest({"text": "zwei\nZeilen"})),
        Note(kind="legacy-began", run="run", tick=1, state=digest({"a": 1})),
        Note(kind="legacy-began", run="run", tick=2),
        Note(kind="legacy-ended", run="run", tick=1),
        Note(kind="told", run="run", tick=1, owner="legacy", outcome="done"),
    ]


def test_a_note_that_was_cut_short_is_told(tmp_path: Path) -> None:
    """What is no note is named by its line, and spoils no other: a ledger that cannot be read proves nothing."""
    book = Notebook(tmp_path / "notebook")
    book.told("run", 0, "async", "done")
    with book.path.open("ab") as file:
        file.write(b'\n{"kind": "to')
    book.told("run", 1, "async", "done")
    with pytest.raises(ConfigurationError, match="line 3 is no note"):
        book.read()


def test_a_notebook_that_nobody_wrote_in(tmp_path: Path) -> None:
    """It is empty."""
    assert Notebook(tmp_path / "none").read() == []
