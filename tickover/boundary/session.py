"""The tick in force in this process: who is running, in which step, and where what is seen is noted.

Adapters ask `current()` for the book of the step that the calling code belongs to. The step is a context variable,
inherited by threads and futures that are started in it, so that a thread which outlives its tick still writes into
the book of its own tick.
"""

from __future__ import annotations

import contextlib
import contextvars
import datetime as dt
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from itertools import count
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NamedTuple

from tickover.boundary.observation import LegacyRequest, Mode
from tickover.draws import DerivedDraws, Draws, RecordedDraws
from tickover.faults import armed
from tickover.tape import Tape, TapeEntry
from tickover.workflow import Write

# A copy's clock stands still. A loop that waits for it to move would never end, so after this many readings in one
# step it moves with the real one.
READINGS_BEFORE_THE_CLOCK_MOVES = 100


# Draws of one kind that are noted of a step. A simulation draws millions: what is over this is named as unobserved.
MAX_DRAWS = 10_000


class Note(NamedTuple):
    """A write that became real: its place in the process-wide order, the write, and what to leave out of the row."""

    number: int
    book: Book
    write: Write
    rowid: str | None
    at_s: float
    late: bool


class Book:
    """What one step of one tick drew, and where its values come from. `step` is "" outside all known steps."""

    def __init__(self, recorder: Recorder, step: str) -> None:
        request = recorder.request
        self.recorder, self.step = recorder, step
        self.noted_now: list[Any] = []
        self.noted_random: list[list[Any]] = []
        self.noted_ids: list[str] = []
        self._clock_readings, self._clock_moves_from_s = 0, 0.0
        self.draws: Draws = DerivedDraws(request.run, request.tick, step, request.started_at)
        if request.draws is not None:
            derived = DerivedDraws(request.run, request.tick, step, request.started_at)
            self.draws = RecordedDraws(request.draws.get(step, {}), derived)
        entries = () if request.mode is Mode.RECORD else (entry for entry in request.tape if entry.step == step)
        self.tape = Tape(entries, prefer_answers=request.mode is Mode.REFERENCE)
        self.tape_lock = threading.RLock()  # finalizers may run inside

    @property
    def records(self) -> bool:
        """Whether the tick is to be left alone."""
        return self.recorder.request.mode is Mode.RECORD

    def note(self, draws: list[Any], drawn: Any) -> None:
        """Note a draw in one of the lists of this book, if there is room."""
        if len(draws) < MAX_DRAWS:
            draws.append(drawn)
        else:
            self.recorder.unobserved[f"over {MAX_DRAWS} draws of a kind in step {self.step!r}"] = None

    def now(self) -> dt.datetime:
        """A copy's instant, aware, in UTC."""
        instant = self.draws.now()
        self._clock_readings += 1
        if self._clock_readings <= READINGS_BEFORE_THE_CLOCK_MOVES:
            return instant
        real_s = time.monotonic()
        self._clock_moves_from_s = self._clock_moves_from_s or real_s
        return instant + dt.timedelta(seconds=real_s - self._clock_moves_from_s)


class StepRun:
    """A step that was entered: mutable, one per step and tick."""

    def __init__(self, name: str, started_s: float) -> None:
        self.name, self.started_s = name, started_s
        self.ended_s: float | None = None
        self.running = 0
        self.entered = 0
        self.gave_up = False
        self.reported_late = False
        self.result: Any = None
        self.error: str | None = None
        self.not_canonical: str | None = None
        self.thread: threading.Thread | None = None


class Recorder:
    """What was seen of one tick; mutable, and written by every thread of the tick, also after it returned."""

    def __init__(self, request: LegacyRequest, home: Path) -> None:
        self.request, self.home = request, home
        self.started_s = time.perf_counter()
        self.ended_s: float | None = None
        self.books: dict[str, Book] = {}
        self.steps: dict[str, StepRun] = {}
        self.calls: list[TapeEntry] = []
        self.notes: list[Note] = []
        self.unobserved: dict[str, None] = {}
        self.errors: dict[str, None] = {}
        self._lock = threading.RLock()
        self.fault = armed({"faults": request.faults}, request.execution_id or "", quiet=session.quiet)
        self.book("")

    def book(self, step: str) -> Book:
        """The book of a step."""
        found = self.books.get(step)
        if found is None:
            with self._lock:
                found = self.books.setdefault(step, Book(self, step))
        return found

    def call(self, entry: TapeEntry) -> None:
        """Note a port call that has ended."""
        self.calls.append(entry)
        session.tell({"call": entry})

    def write(self, book: Book, write: Write, *, rowid: str | None = None, number: int | None = None) -> None:
        """Note a write that became real."""
        if self.fault is not None:
            # Of a process that is killed, the ledger is all that is left.
            self.fault.note("wrote", step=book.step, write=asdict(write), rowid=rowid)
        self.notes.append(
            Note(
                session.next_number() if number is None else number,
                book,
                write,
                rowid,
                time.perf_counter() - self.started_s,
                self.ended_s is not None,
            )
        )


class Session:
    """What this process is doing; one instance."""

    def __init__(self) -> None:
        self.recorder: Recorder | None = None
        self.installed: list[str] = []
        # Takes news of a tick as it goes: all that is left of it if the process dies.
        self.tell: Callable[[dict[str, Any]], None] = lambda news: None
        self._numbers = count()
        self._quiet = threading.local()
        self._user_files: dict[str, bool] = {}
        self._user_roots: tuple[str, ...] = ()
        paths = sysconfig.get_paths()
        self._libraries = tuple({paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")})
        self._own = str(Path(__file__).parent.parent) + "/"

    def next_number(self) -> int:
        """The next place in the order of writes."""
        return next(self._numbers)

    def fail(self, where: str, error: BaseException) -> None:
        """Report that the harness itself failed; legacy never hears of it."""
        if self.recorder is not None:
            self.recorder.errors[f"{where}: {type(error).__name__}: {error}"] = None

    def unobserved(self, name: str) -> None:
        """Note that legacy used a door which no adapter watches."""
        book = current()
        if book is not None:
            book.recorder.unobserved[name] = None

    @property
    def is_quiet(self) -> bool:
        """Whether the harness itself is at work in this thread."""
        return getattr(self._quiet, "depth", 0) > 0

    def quiet(self) -> _Quiet:
        """A block in which this thread's own doings are not observed."""
        return _Quiet(self._quiet)

    def user_packages(self, names: Iterable[str]) -> None:
        """Name the top packages of the user's code, which may be installed beside libraries."""
        roots = []
        for name in {name.partition(".")[0] for name in names}:
            module = sys.modules.get(name)
            if module is not None and module.__file__:
                file = Path(module.__file__)
                roots.append(str(file.parent) + "/" if file.name == "__init__.py" else str(file))
        self._user_roots = tuple(roots)
        self._user_files.clear()

    def is_user_file(self, filename: str) -> bool:
        """Whether code of that file is the user's, not a library's."""
        known = self._user_files.get(filename)
        if known is None:
            known = self._user_files[filename] = self._classify(filename)
        return known

    def _classify(self, filename: str) -> bool:
        if self._user_roots and filename.startswith(self._user_roots):
            return True
        return not filename.startswith((*self._libraries, self._own, "<frozen"))


class _Quiet:
    __slots__ = ("_local",)

    def __init__(self, local: threading.local) -> None:
        self._local = local

    def __enter__(self) -> None:
        self._local.depth = getattr(self._local, "depth", 0) + 1

    def __exit__(self, *_: object) -> None:
        self._local.depth -= 1


class guarded:
    """A block whose failure is the harness's: it is reported, and never reaches legacy."""

    __slots__ = ("_where",)

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None:
        session._quiet.depth = getattr(session._quiet, "depth", 0) + 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> bool:
        session._quiet.depth -= 1
        if error is None or not isinstance(error, Exception):
            return False
        session.fail(self._where, error)
        return True


session = Session()
scope: contextvars.ContextVar[Book | None] = contextvars.ContextVar("tickover_book", default=None)

_at_work: contextvars.ContextVar[bool] = contextvars.ContextVar("tickover_at_work", default=False)


@contextlib.contextmanager
def adapter_at_work() -> Iterator[None]:
    """A block whose connections an adapter sees, also where tasks of an event loop make them."""
    token = _at_work.set(True)
    try:
        yield
    finally:
        _at_work.reset(token)


def is_adapter_at_work() -> bool:
    """Whether the calling code runs on behalf of an adapter that sees what it does."""
    return _at_work.get()


# The attribute of a thread that holds the book of the code which started it.
INHERITED = "_tickover_book"


def current() -> Book | None:
    """The book of the step that the calling code belongs to; None outside ticks, and for the harness itself."""
    if session.is_quiet:
        return None
    book = scope.get()
    if book is None:
        book = getattr(threading.current_thread(), INHERITED, None)
        if book is None and session.recorder is not None and session.recorder.ended_s is None:
            return session.recorder.books[""]
    return book


def current_for_user(depth: int = 2, skip: frozenset[str] = frozenset()) -> Book | None:
    """As `current`, but None where a library asks: its draws are its own. `depth` counts frames from here; frames of
    the files in `skip` are passed over."""
    book = current()
    if book is None:
        return None
    frame: FrameType | None = sys._getframe(depth)
    while frame is not None and frame.f_code.co_filename in skip:
        frame = frame.f_back
    return book if frame is not None and session.is_user_file(frame.f_code.co_filename) else None
