"""The clock: what legacy reads from `datetime` and `time`.

`datetime.now` is replaced inside the type itself. A subclass in its place would be visible: `type(x) is datetime`,
pickles, sqlite3 adapters and `singledispatch` all go by the type. `date.today` and `datetime.today` read `time.time`.
"""

from __future__ import annotations

import ctypes
import datetime as dt
import gc
import time
from collections.abc import Callable
from typing import Any

from tickover.boundary.session import current_for_user, guarded

_real_time = time.time


def install() -> list[str]:
    """Watch the clock. Returns the names of what is watched now."""
    names = ["clock: time"]
    _install_time()
    with guarded("clock"):
        _install_datetime()
        names.append("clock: datetime")
    return names


def _install_time() -> None:
    real_ns = time.time_ns

    def read() -> float:
        book = current_for_user()
        if book is None:
            return _real_time()
        if not book.records:
            return book.now().timestamp()
        value = _real_time()
        book.note(book.noted_now, value)
        return value

    def read_ns() -> int:
        book = current_for_user()
        if book is None:
            return real_ns()
        if not book.records:
            return int((book.now() - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) / dt.timedelta(microseconds=1)) * 1000
        value = real_ns()
        book.note(book.noted_now, value / 1e9)
        return value

    read.__name__ = read.__qualname__ = "time"
    read_ns.__name__ = read_ns.__qualname__ = "time_ns"
    time.time, time.time_ns = read, read_ns
    for name in ("localtime", "gmtime", "ctime"):
        setattr(time, name, _with_default_instant(getattr(time, name)))
    real_strftime, localtime = time.strftime, time.localtime

    def strftime(pattern: str, *instant: Any) -> str:
        if instant or current_for_user() is None:
            return real_strftime(pattern, *instant)
        return real_strftime(pattern, localtime(read_for(3)))

    time.strftime = strftime


def read_for(depth: int) -> float:
    """The time in seconds for the code `depth` frames above, noted or derived as the mode has it."""
    book = current_for_user(depth)
    if book is None:
        return _real_time()
    if not book.records:
        return book.now().timestamp()
    value = _real_time()
    book.note(book.noted_now, value)
    return value


def _with_default_instant(real: Callable[..., Any]) -> Callable[..., Any]:
    def read(seconds: float | None = None, /) -> Any:
        return real(read_for(3) if seconds is None else seconds)

    read.__name__ = read.__qualname__ = real.__name__
    return read


def _install_datetime() -> None:
    members: dict[str, Any] = gc.get_referents(dt.datetime.__dict__)[0]
    real_now, real_utcnow = members["now"], members["utcnow"]
    utc = dt.UTC

    def now(cls: type[dt.datetime], tz: dt.tzinfo | None = None) -> dt.datetime:
        book = current_for_user()
        if book is not None and not book.records:
            return cls.fromtimestamp(book.now().timestamp(), tz)
        value: dt.datetime = real_now.__get__(None, cls)(tz)
        if book is not None:
            book.note(book.noted_now, value)
        return value

    def utcnow(cls: type[dt.datetime]) -> dt.datetime:
        book = current_for_user()
        if book is not None and not book.records:
            return cls.fromtimestamp(book.now().timestamp(), utc).replace(tzinfo=None)
        value: dt.datetime = real_utcnow.__get__(None, cls)()
        if book is not None:
            book.note(book.noted_now, value.replace(tzinfo=utc))
        return value

    for function in (now, utcnow):
        function.__module__, function.__qualname__ = "datetime", f"datetime.{function.__name__}"
        members[function.__name__] = classmethod(function)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(dt.datetime))
    if dt.datetime.now.__func__ is not now:  # type: ignore[attr-defined]
        raise RuntimeError("this Python does not let datetime.now be watched")


def instant_text(noted: float | dt.datetime) -> str:
    """A noted reading as an ISO 8601 instant in UTC."""
    if isinstance(noted, dt.datetime):
        return noted.astimezone(dt.UTC).isoformat()
    return dt.datetime.fromtimestamp(noted, dt.UTC).isoformat()
