"""Tests of tickover.ground.copying: a copy in two passes is equal, and leaves out what cannot be copied."""

from __future__ import annotations

import os
from pathlib import Path

from tickover.ground.copying import copy_folder, size_of

LONG_AGO = 1_000_000_000


def _contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def _write(path: Path, text: str, at: int = LONG_AGO) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (at, at))


def test_the_second_pass_makes_the_copy_equal(tmp_path: Path) -> None:
    """Changed, new, removed, replaced by a folder: afterwards the copy holds what the source does."""
    source, target = tmp_path / "source", tmp_path / "target"
    for name in ("same", "changed", "gone", "deep/er/gone", "file"):
        _write(source / name, name)
    known = copy_folder(source, target)
    assert _contents(target) == _contents(source) and len(known) == 5
    _write(source / "changed", "changeD", LONG_AGO + 1)
    _write(source / "new", "new")
    (source / "gone").unlink()
    (source / "deep" / "er" / "gone").unlink()
    (source / "deep" / "er").rmdir()
    copy_folder(source, target, known)
    assert _contents(target) == _contents(source)
    assert not (target / "deep" / "er").exists()


def test_only_what_has_changed_is_copied_again(tmp_path: Path) -> None:
    """A file whose stamp is known is left alone, also where the copy was spoiled meanwhile."""
    source, target = tmp_path / "source", tmp_path / "target"
    _write(source / "large", "large")
    known = copy_folder(source, target)
    (target / "large").write_text("untouched")
    copy_folder(source, target, known)
    assert (target / "large").read_text() == "untouched"


def test_a_file_that_was_written_just_now_is_copied_again(tmp_path: Path) -> None:
    """Its time cannot tell it from a change of the same instant and size, so it is not trusted."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "hot").write_text("one")
    at = (source / "hot").stat()
    known = copy_folder(source, target)
    (source / "hot").write_text("two")
    os.utime(source / "hot", ns=(at.st_atime_ns, at.st_mtime_ns))
    copy_folder(source, target, known)
    assert (target / "hot").read_text() == "two"


def test_links_stay_links_and_pipes_are_left_out(tmp_path: Path) -> None:
    """A link is copied as one, also a broken one; a pipe would block whoever reads it."""
    source, target = tmp_path / "source", tmp_path / "target"
    _write(source / "file", "file")
    (source / "link").symlink_to("file")
    (source / "broken").symlink_to("nowhere")
    os.mkfifo(source / "pipe")
    copy_folder(source, target, copy_folder(source, target))
    assert os.readlink(target / "link") == "file" and os.readlink(target / "broken") == "nowhere"
    assert not (target / "pipe").exists()


def test_the_size_of_what_is_not_there_is_nothing(tmp_path: Path) -> None:
    """Bytes of all files, and 0 for a folder that does not exist."""
    _write(tmp_path / "deep" / "file", "12345")
    assert (size_of(tmp_path), size_of(tmp_path / "none")) == (5, 0)
