"""Copies of a folder that others write to: most of it copied beforehand, the rest while they stand still."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Mapping
from pathlib import Path

# How old a file's last change must be for its time to tell it from a later one, in nanoseconds: file systems' clocks
# tick slowly.
_SETTLED_NS = 2_000_000_000

# What tells one content of a file from another: size, time of the last change, and which file it is.
Stamp = tuple[int, int, int]


def copy_folder(source: Path, target: Path, known: Mapping[str, Stamp] | None = None) -> dict[str, Stamp]:
    """Make `target` hold what `source` does, and return what a later call needs to copy only what has changed since.

    known: what an earlier call returned, for the same folders. Links stay links; sockets, pipes and devices are left
    out. A file that vanishes meanwhile is left out as well. Raises OSError.
    """
    target.mkdir(parents=True, exist_ok=True)
    begun_ns, stamps, there = time.time_ns(), {}, set()
    for folder, folders, files in os.walk(source):
        place = Path(folder).relative_to(source)
        for name in [*folders, *files]:
            relative = place / name
            try:
                kind = _copy(source / relative, target / relative, (known or {}).get(str(relative)))
            except FileNotFoundError:
                continue
            there.add(str(relative))
            if kind is not None and kind[1] < begun_ns - _SETTLED_NS:
                stamps[str(relative)] = kind
    _remove_others(target, there)
    return stamps


def size_of(folder: Path) -> int:
    """Bytes of the files in a folder, 0 where there is none."""
    total = 0
    for place, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except FileNotFoundError:
                continue
    return total


def _copy(source: Path, target: Path, known: Stamp | None) -> Stamp | None:
    """Copy a file or link, or make a folder; the stamp of a file."""
    found = source.lstat()
    if stat.S_ISLNK(found.st_mode):
        target.unlink(missing_ok=True)
        target.symlink_to(os.readlink(source))
    elif stat.S_ISDIR(found.st_mode):
        target.mkdir(exist_ok=True)
    elif stat.S_ISREG(found.st_mode):
        stamp = (found.st_size, found.st_mtime_ns, found.st_ino)
        if stamp != known or not target.exists():
            shutil.copy2(source, target)
        return stamp
    return None


def _remove_others(target: Path, there: set[str]) -> None:
    """Remove from the target what is not (any more) in the source."""
    for folder, folders, files in os.walk(target, topdown=False):
        place = Path(folder).relative_to(target)
        for name in [*folders, *files]:
            if str(place / name) in there:
                continue
            gone = target / place / name
            gone.rmdir() if gone.is_dir() and not gone.is_symlink() else gone.unlink()
