"""Files: what legacy writes under its home.

An audit hook sees every opening for writing, before it happens; nothing is put between legacy and its file objects.
What was written is read from the disk when it can be told: when the same file is opened, renamed or removed next,
when the step ends, and when the tick ends. So a temporary file that is moved into place is one write, of the final
name. Files kept open from tick to tick are looked at again at the end of each tick.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tickover.boundary.session import Book, Recorder, current, guarded, session
from tickover.workflow import Write

# Contents over this many bytes stand in a write as their digest.
MAX_CONTENT_BYTES = 256 * 1024

# How many files that were once opened for writing are looked at again at the end of a tick.
_REMEMBERED = 64

# SQLite's own files: the sqlite3 adapter sees what is in them.
_SQLITE_ENDINGS = ("-journal", "-wal", "-shm")

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_TRUNC


@dataclass
class _Opened:
    """A file opened for writing whose new content has not been read yet."""

    book: Book
    path: str
    number: int
    appends: bool
    existed: bool
    size: int


_opened: dict[str, _Opened] = {}
_remembered: OrderedDict[str, tuple[int, int]] = OrderedDict()
_lock = threading.RLock()
sqlite_files: set[str] = set()


def install() -> list[str]:
    """Watch files. The audit hook calls `opening`. Returns the names of what is watched now."""
    os.rename, os.replace = _moving(os.rename), _moving(os.replace)
    os.remove, os.unlink = _removing(os.remove), _removing(os.unlink)
    return ["files under the home"]


def opening(path: Any, flags: Any) -> None:
    """A file is about to be opened; called by the audit hook for every opening."""
    if not isinstance(flags, int) or not flags & _WRITING or isinstance(path, int):
        return
    book = current()
    if book is None:
        return
    with guarded("files"):
        full = _full(path)
        if full is None or _is_own_business(full):
            return
        home = str(book.recorder.home)
        if not full.startswith(home + "/"):
            _outside(book, full)
            return
        with _lock:
            if full in _opened:
                _read(_opened.pop(full))
            size, existed = _size(full)
            _opened[full] = _Opened(book, full, session.next_number(), bool(flags & os.O_APPEND), existed, size)


def _outside(book: Book, full: str) -> None:
    """Note a write outside the home, by its directory: names of scratch files differ from tick to tick."""
    if full.startswith(("/dev/", "/proc/")):
        return
    book.recorder.unobserved[f"files in {os.path.dirname(full)}"] = None


def look(recorder: Recorder, step: str | None = None) -> None:
    """Read what was written: by a step that ended, or (None) by all, with another look at files kept open."""
    with guarded("files"), _lock:
        for path, opened in list(_opened.items()):
            if opened.book.recorder is recorder and step in (None, opened.book.step):
                del _opened[path]
                _read(opened)
        if step is None:
            for path, seen in list(_remembered.items()):
                if path not in _opened and _stamp(path) not in (seen, None):
                    size = seen[0]
                    book = recorder.book("")
                    _read(_Opened(book, path, session.next_number(), _stamp(path)[0] >= size, True, size))  # type: ignore[index]


def flush_others(recorder: Recorder) -> None:
    """Read what earlier ticks opened and have written since, before another tick begins."""
    with guarded("files"), _lock:
        for path, opened in list(_opened.items()):
            if opened.book.recorder is not recorder:
                del _opened[path]
                _read(opened)


def _read(opened: _Opened) -> None:
    with _lock:
        stamp = _stamp(opened.path)
        if stamp is None:
            return
        _remembered[opened.path] = stamp
        _remembered.move_to_end(opened.path)
        if len(_remembered) > _REMEMBERED:
            _remembered.popitem(last=False)
    start = opened.size if opened.appends else 0
    if opened.appends and stamp[0] <= start and opened.existed:
        return
    _write(opened.book, opened.path, "append" if opened.appends else "write", start, opened.number)


def _write(book: Book, path: str, op: str, start: int, number: int) -> None:
    with open(path, "rb") as file:
        file.seek(start)
        content = file.read(MAX_CONTENT_BYTES + 1)
        if len(content) > MAX_CONTENT_BYTES:
            sha256 = hashlib.sha256(content)
            size = len(content)
            while more := file.read(1 << 20):
                sha256.update(more)
                size += len(more)
            row: dict[str, Any] = {"sha256": sha256.hexdigest(), "size_bytes": size}
        else:
            row = content_of(content)
    target = os.path.relpath(path, book.recorder.home)
    book.recorder.write(book, Write(door="file", target=target, op=op, row=row), number=number)


def content_of(content: bytes) -> dict[str, Any]:
    """Bytes as JSON: `{"text": ...}`, or `{"base64": ...}` where they are no UTF-8."""
    try:
        return {"text": content.decode("utf-8")}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(content).decode("ascii")}


def _moving(real: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(real)
    def move(src: Any, dst: Any, **kwargs: Any) -> None:
        real(src, dst, **kwargs)
        book = current()
        if book is None:
            return
        with guarded("files"), _lock:
            source, target = _full(src, kwargs.get("src_dir_fd")), _full(dst, kwargs.get("dst_dir_fd"))
            if source is None or target is None or os.path.isdir(target):
                return
            home = str(book.recorder.home) + "/"
            opened = _opened.pop(source, None)
            _opened.pop(target, None)
            _remembered.pop(source, None)
            if target.startswith(home):
                _write(book, target, "write", 0, opened.number if opened else session.next_number())
                _remembered[target] = _stamp(target) or (0, 0)
            elif not _is_own_business(target):
                _outside(book, target)
            if source.startswith(home) and (opened is None or opened.existed):
                gone = Write(door="file", target=os.path.relpath(source, book.recorder.home), op="remove", row=None)
                book.recorder.write(book, gone)

    return move


def _removing(real: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(real)
    def remove(path: Any, **kwargs: Any) -> None:
        book = current()
        created_here = False
        if book is not None:
            with guarded("files"), _lock:
                opened = _opened.pop(_full(path, kwargs.get("dir_fd")) or "", None)
                created_here = opened is not None and not opened.existed
        real(path, **kwargs)
        if book is None or created_here:
            return
        with guarded("files"), _lock:
            full = _full(path, kwargs.get("dir_fd"))
            if full is None or _is_own_business(full):
                return
            _remembered.pop(full, None)
            if full.startswith(str(book.recorder.home) + "/"):
                target = os.path.relpath(full, book.recorder.home)
                book.recorder.write(book, Write(door="file", target=target, op="remove", row=None))
            else:
                _outside(book, full)

    return remove


def _full(path: Any, directory: int | None = None) -> str | None:
    """The absolute path of a name, in an open directory if one is given."""
    if isinstance(path, int):
        return None
    text = os.fsdecode(path)
    if directory is not None:
        text = os.path.join(os.readlink(f"/proc/self/fd/{directory}"), text)
    return os.path.join(os.path.realpath(os.path.dirname(text) or "."), os.path.basename(text))


def _is_own_business(full: str) -> bool:
    if "/__pycache__/" in full or full in sqlite_files:
        return True
    return full.endswith(_SQLITE_ENDINGS) and full.rpartition("-")[0] in sqlite_files


def _size(full: str) -> tuple[int, bool]:
    stamp = _stamp(full)
    return (0, False) if stamp is None else (stamp[0], True)


def _stamp(full: str) -> tuple[int, int] | None:
    try:
        found = os.stat(full)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
