"""Limits of one attempt: a soft one that raises StepTimeout in the step, and what is known of the hard one."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import threading
from collections.abc import Iterator
from typing import Any

from tickover.errors import StepTimeout

# From the soft limit to the hard one, in seconds of real time: time for a step to notice and clean up.
HARD_MARGIN_S = 5.0


@contextlib.contextmanager
def soft_limit(step: str, limit_s: float) -> Iterator[None]:
    """Raise StepTimeout in this thread if the body takes longer than `limit_s` seconds."""
    if threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer"):
        with _by_signal(step, limit_s):
            yield
    else:
        with _by_thread(step, limit_s):
            yield


@contextlib.contextmanager
def _by_signal(step: str, limit_s: float) -> Iterator[None]:
    def expire(*_: Any) -> None:
        raise StepTimeout(f"step {step!r} ran into its limit of {limit_s:g} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _by_thread(step: str, limit_s: float) -> Iterator[None]:
    target = threading.get_ident()
    lock = threading.Lock()
    state = {"over": False, "fired": False}

    def expire() -> None:
        with lock:
            if not state["over"]:
                state["fired"] = True
                # Takes effect at the thread's next bytecode: a blocking call is not interrupted, what follows it is.
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(target), ctypes.py_object(_Expired))

    timer = threading.Timer(limit_s, expire)
    timer.daemon = True
    timer.start()
    try:
        yield
    except _Expired:
        raise StepTimeout(f"step {step!r} ran into its limit of {limit_s:g} s") from None
    finally:
        timer.cancel()
        with lock:
            state["over"] = True
        if state["fired"]:
            # An exception that was set but not yet raised must not hit the code after the step.
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(target), None)


class _Expired(BaseException):
    """What the timer thread sets in the step's thread; no `except Exception` of a step swallows it."""
