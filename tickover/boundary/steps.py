"""Steps of legacy: its named functions are wrapped, so that what happens in them is known to happen there."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import importlib
import inspect
import threading
import time
from collections.abc import Callable
from typing import Any

from tickover.boundary import files
from tickover.boundary.observation import StepObservation
from tickover.boundary.session import INHERITED, Book, Recorder, StepRun, current, guarded, scope, session
from tickover.canonical import normalise
from tickover.errors import ConfigurationError, NotCanonical
from tickover.workflow import Workflow

# How a future remembers the steps that ran in it.
_RUNS = "_tickover_runs"


def install_inheritance() -> None:
    """Let threads and futures belong to the step that started them, and notice who stops waiting for them."""
    real_start, real_join = threading.Thread.start, threading.Thread.join

    @functools.wraps(real_start)
    def start(self: threading.Thread) -> None:
        book = current()
        if book is not None:
            setattr(self, INHERITED, book)
        real_start(self)

    @functools.wraps(real_join)
    def join(self: threading.Thread, timeout: float | None = None) -> None:
        real_join(self, timeout)
        if timeout is not None:
            with guarded("steps"):
                _waited_for_thread(self)

    threading.Thread.start, threading.Thread.join = start, join  # type: ignore[method-assign]
    pool: Any = concurrent.futures.ThreadPoolExecutor
    real_submit = pool.submit

    @functools.wraps(real_submit)
    def submit(self: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        book = current()
        if book is None:
            return real_submit(self, fn, *args, **kwargs)
        runs: list[StepRun] = []
        future = real_submit(self, _run_in, book, runs, fn, args, kwargs)
        setattr(future, _RUNS, runs)
        return future

    pool.submit = submit
    real_result = concurrent.futures.Future.result

    @functools.wraps(real_result)
    def result(self: Any, timeout: float | None = None) -> Any:
        try:
            return real_result(self, timeout)
        finally:
            if timeout is not None:
                for run in getattr(self, _RUNS, ()):
                    run.gave_up = not self.done()

    concurrent.futures.Future.result = result  # type: ignore[method-assign]


_futures = threading.local()


def _run_in(book: Book, runs: list[StepRun], fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    token = scope.set(book)
    outer, _futures.runs = getattr(_futures, "runs", None), runs
    try:
        return fn(*args, **kwargs)
    finally:
        scope.reset(token)
        _futures.runs = outer


def _waited_for_thread(thread: threading.Thread) -> None:
    recorder = session.recorder
    for run in list(recorder.steps.values()) if recorder is not None else ():
        if run.thread is thread:
            run.gave_up = thread.is_alive() and run.ended_s is None


def wrap_steps(workflow: Workflow) -> None:
    """Wrap the functions that `legacy_steps` names. Raises ConfigurationError where one does not exist."""
    for step, reference in workflow.legacy_steps.items():
        module_name, _, path = reference.partition(":")
        owner: Any = importlib.import_module(module_name)
        *parents, name = path.split(".")
        try:
            for parent in parents:
                owner = getattr(owner, parent)
            raw = inspect.getattr_static(owner, name)
        except AttributeError:
            raise ConfigurationError(
                f"legacy_steps of {workflow.name!r} names {reference!r} for step {step!r}, which does not exist; "
                "correct the name in the workflow"
            ) from None
        if isinstance(raw, staticmethod | classmethod):
            setattr(owner, name, type(raw)(_wrapped(workflow, step, raw.__func__)))
        else:
            setattr(owner, name, _wrapped(workflow, step, raw))


def _wrapped(workflow: Workflow, step: str, function: Callable[..., Any]) -> Callable[..., Any]:
    needs = workflow.step(step).needs
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def observed_coroutine(*args: Any, **kwargs: Any) -> Any:
            entered = _Entered(workflow, step, needs)
            try:
                with entered.fault_point():
                    value = await function(*args, **kwargs)
            except BaseException as error:
                entered.failed(error)
                raise
            entered.returned(value, (*args, *kwargs.values()))
            return value

        return observed_coroutine

    @functools.wraps(function)
    def observed(*args: Any, **kwargs: Any) -> Any:
        entered = _Entered(workflow, step, needs)
        try:
            with entered.fault_point():
                value = function(*args, **kwargs)
        except BaseException as error:
            entered.failed(error)
            raise
        entered.returned(value, (*args, *kwargs.values()))
        return value

    return observed


class _Entered:
    """One entry into a step's function."""

    def __init__(self, workflow: Workflow, step: str, needs: tuple[str, ...]) -> None:
        self._workflow = workflow
        self._run: StepRun | None = None
        book = current()
        if book is None:
            return
        with guarded("steps"):
            recorder = book.recorder
            now_s = time.perf_counter() - recorder.started_s
            for need in needs:
                before = recorder.steps.get(need)
                if before is not None and before.running:
                    before.gave_up = True
            run = recorder.steps.setdefault(step, StepRun(step, now_s))
            run.running += 1
            run.entered += 1
            run.ended_s, run.gave_up, run.thread = None, False, threading.current_thread()
            futures: list[StepRun] | None = getattr(_futures, "runs", None)
            if futures is not None:
                futures.append(run)
            self._recorder: Recorder = recorder
            self._run = run
            self._token = scope.set(recorder.book(step))

    def fault_point(self) -> contextlib.AbstractContextManager[None]:
        """Where a drill's fault strikes the step."""
        fault = self._recorder.fault if self._run is not None else None
        return contextlib.nullcontext() if fault is None or self._run is None else fault.around(self._run.name)

    def failed(self, error: BaseException) -> None:
        """The function raised."""
        if self._run is not None:
            with guarded("steps"):
                self._run.error, self._run.result = f"{type(error).__name__}: {error}", None
                self._leave()

    def returned(self, value: Any, arguments: tuple[Any, ...]) -> None:
        """The function returned; its result is taken down before anybody can change it."""
        if self._run is not None:
            run = self._run
            with guarded("steps"):
                run.error = run.not_canonical = run.result = None
                try:
                    if self._workflow.legacy_result is not None:
                        value = self._workflow.legacy_result(run.name, value, arguments)
                    run.result = normalise(value, self._workflow.normalise)
                except NotCanonical as error:
                    run.not_canonical = str(error)
            with guarded("steps"):
                self._leave()

    def _leave(self) -> None:
        run = self._run
        if run is None:
            return
        scope.reset(self._token)
        run.running -= 1
        files.look(self._recorder, run.name)
        if not run.running:
            run.ended_s = time.perf_counter() - self._recorder.started_s
            if self._recorder.fault is not None:
                status = "failed" if run.error else "done"
                self._recorder.fault.note("committed", step=run.name, attempt=1, status=status, accepted=True)
            request = self._recorder.request
            news = {"run": request.run, "tick": request.tick, "observation": step_observation(run)}
            session.tell({"step": run.name, **news})


def step_observation(run: StepRun) -> StepObservation:
    """What is known of a step by now."""
    ended_s = run.ended_s
    return StepObservation(
        result=run.result,
        error=run.error,
        not_canonical=run.not_canonical,
        started_ms=round(run.started_s * 1000, 3),
        duration_ms=None if ended_s is None else round((ended_s - run.started_s) * 1000, 3),
        gave_up=run.gave_up,
        calls=run.entered,
    )
