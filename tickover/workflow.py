"""Steps and workflows: the job that both systems run, as values that are checked on construction."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tickover.canonical import Json, Normaliser
from tickover.effects import Effect
from tickover.errors import ContractError, CyclicNeeds, DuplicateStep, UnknownNeed, WorkflowError
from tickover.ports import Port

if TYPE_CHECKING:
    from tickover.context import TickContext

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}\Z")

StepFunction = Callable[["TickContext"], Any]


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """When a step is tried again; immutable.

    attempts: how often the step runs at most, the first time included. backoff_s: wait before the second attempt,
    in seconds of real time at scale 1; it doubles (`factor`) up to max_backoff_s. jitter: share of each wait that
    is drawn at random (0.5: between half and the whole of it). retry_on: errors worth another attempt; a broken
    contract never is.
    """

    attempts: int = 3
    backoff_s: float = 1.0
    factor: float = 2.0
    max_backoff_s: float = 60.0
    jitter: float = 0.5
    retry_on: tuple[type[BaseException], ...] = (Exception,)

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise WorkflowError(f"a retry policy needs at least one attempt, not {self.attempts}")
        if self.backoff_s < 0 or self.factor < 1 or self.max_backoff_s < 0 or not 0 <= self.jitter <= 1:
            raise WorkflowError("backoff_s and max_backoff_s must be >= 0, factor >= 1, jitter between 0 and 1")

    def retries(self, error: BaseException, attempt: int) -> bool:
        """Whether an error at this attempt (from 1) is worth another one."""
        return attempt < self.attempts and isinstance(error, self.retry_on) and not isinstance(error, ContractError)

    def wait_s(self, attempt: int, draw: float) -> float:
        """Seconds to wait after this failed attempt (from 1); `draw` in [0, 1) decides the jitter."""
        whole = min(self.max_backoff_s, self.backoff_s * self.factor ** min(attempt - 1, 64))
        return whole * (1 - self.jitter * draw)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One named part of a tick; immutable.

    run: the function; it gets a TickContext and returns a value with a JSON form. needs: names of steps whose
    results it reads. timeout_s: limit of one attempt, in seconds at scale 1. critical: its failure fails the tick;
    an optional step's failure counts as finished, and who needs it sees an absent result. queue: where its messages
    go. fallback: stands in when all attempts failed. when: whether the step applies to a tick; where it does not,
    it is recorded as not applicable.
    """

    name: str
    run: StepFunction
    needs: tuple[str, ...] = ()
    timeout_s: float = 60.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    critical: bool = True
    queue: str = "critical"
    fallback: StepFunction | None = None
    when: Callable[[TickContext], bool] | None = None

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise WorkflowError(f"{self.name!r} is no step name: use lower-case letters, digits and underscores")
        if isinstance(self.needs, str):
            raise WorkflowError(f"the needs of step {self.name!r} must be a tuple of names, not one string")
        object.__setattr__(self, "needs", tuple(self.needs))
        if not self.timeout_s > 0:
            raise WorkflowError(f"the timeout of step {self.name!r} must be above 0 s, not {self.timeout_s}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Write:
    """A write of the legacy system that an adapter observed, before it becomes an effect; immutable.

    door: "sqlite", "file", "psycopg2" or "http". target: table, relative path or URL. op: "insert", "update",
    "delete", "write", "append" or "remove". row: the row or `{"text": ...}` afterwards (None for a delete). before:
    the row as it was.
    """

    door: str
    target: str
    op: str
    row: Json
    before: Json = None


@dataclass(frozen=True, kw_only=True)
class Workflow:
    """A job: its steps and graph, and how the old system is read, run and compared; immutable.

    name, version: the version is part of what evidence is about. steps: in the order in which effects of parallel
    steps apply (each must stand after what it needs only in the graph; the graph order is computed). ports: outside
    dependencies. initial_state: state document of tick 0, or a function that makes it. reduce: (state, effect) ->
    the new state; it may change and return its argument. state_kinds: kinds of effects that change nothing but the
    state document; they are compared through the state. source: (tick, state) -> the tick's input, JSON. stratum:
    (tick, state) -> kind of tick. normalise: value of one's own type -> something with a JSON form. deliver: what
    happens to an adopted effect outside, called at least once with (effect, idempotency key, home); None if nothing
    does.

    services: (time scale, seed) -> context manager of environment variables, for what the workload calls and a
    development machine lacks (a scripted model); used where TICKOVER_MODEL_URL is unset.

    legacy: the old system's callable for one tick, `f(tick)`, or its `module:name`, which is then loaded only where
    legacy runs. legacy_env: (home, time scale, model URL or None) -> environment of the legacy process.
    legacy_steps: step -> `module:Class.method` or `module:function` of legacy that is this step. legacy_result:
    (step, returned value, arguments of the call) -> the step's result. legacy_effects: Write -> (kind, payload) or
    (kind, payload, key), or None for a write that is no effect. read_state: home -> state document. write_state:
    (home, document) -> None, so that read_state gives it back.
    """

    name: str
    version: str
    steps: Sequence[Step]
    ports: Sequence[Port] = ()
    initial_state: Json | Callable[[], Json] = field(default_factory=dict)
    reduce: Callable[[Json, Effect], Json] = lambda state, effect: state
    state_kinds: Sequence[str] = ()
    source: Callable[[int, Json], Json] | None = None
    stratum: Callable[[int, Json], str] | None = None
    normalise: Normaliser | None = None
    deliver: Callable[[Effect, str, Path], None] | None = None
    services: Callable[[float, int], AbstractContextManager[Mapping[str, str]]] | None = None
    legacy: Callable[[int], Any] | str | None = None
    legacy_env: Callable[[Path, float, str | None], Mapping[str, str]] | None = None
    legacy_steps: Mapping[str, str] = field(default_factory=dict)
    legacy_result: Callable[[str, Any, tuple[Any, ...]], Any] | None = None
    legacy_effects: Callable[[Write], tuple[Any, ...] | None] | None = None
    read_state: Callable[[Path], Json] | None = None
    write_state: Callable[[Path, Json], None] | None = None

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise WorkflowError(f"{self.name!r} is no workflow name: use lower-case letters, digits and underscores")
        object.__setattr__(self, "steps", tuple(self.steps))
        object.__setattr__(self, "ports", tuple(self.ports))
        if not self.steps:
            raise WorkflowError(f"workflow {self.name!r} has no steps")
        names: set[str] = set()
        for step in self.steps:
            if step.name in names:
                raise DuplicateStep(f"workflow {self.name!r} has two steps named {step.name!r}; rename one of them")
            names.add(step.name)
        for step in self.steps:
            for need in step.needs:
                if need not in names:
                    raise UnknownNeed(
                        f"step {step.name!r} needs {need!r}, which workflow {self.name!r} does not have; "
                        f"its steps are {', '.join(s.name for s in self.steps)}"
                    )
        for named in self.legacy_steps:
            if named not in names:
                raise WorkflowError(f"legacy_steps names {named!r}, which is no step of workflow {self.name!r}")
        _ = self.order

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Step names in graph order: after their needs, else in the order given."""
        sorter = TopologicalSorter({step.name: step.needs for step in self.steps})
        try:
            sorter.prepare()
        except CycleError as error:
            circle = " -> ".join(error.args[1])
            raise CyclicNeeds(f"steps of workflow {self.name!r} need each other in a circle: {circle}") from error
        given = [step.name for step in self.steps]
        order: list[str] = []
        ready: list[str] = []
        while sorter.is_active():
            ready = sorted([*ready, *sorter.get_ready()], key=given.index)
            name = ready.pop(0)
            order.append(name)
            sorter.done(name)
        return tuple(order)

    @cached_property
    def positions(self) -> Mapping[str, int]:
        """Step name -> its place in the graph order, from 0."""
        return {name: position for position, name in enumerate(self.order)}

    @cached_property
    def by_name(self) -> Mapping[str, Step]:
        """Step name -> step."""
        return {step.name: step for step in self.steps}

    def step(self, name: str) -> Step:
        """The step of that name. Raises WorkflowError if there is none."""
        try:
            return self.by_name[name]
        except KeyError:
            known = ", ".join(self.order)
            raise WorkflowError(f"workflow {self.name!r} has no step {name!r}; its steps are {known}") from None

    def port(self, name: str) -> Port:
        """The port of that name. Raises WorkflowError if there is none."""
        for port in self.ports:
            if port.name == name:
                return port
        known = ", ".join(port.name for port in self.ports) or "none"
        raise WorkflowError(f"workflow {self.name!r} has no port {name!r}; its ports are {known}")

    def start_state(self) -> Json:
        """The state document of tick 0."""
        return self.initial_state() if callable(self.initial_state) else self.initial_state

    def apply(self, state: Json, effects: Sequence[Effect]) -> Json:
        """The state after the effects, applied in their one order. `state` may be changed: pass a copy."""
        for effect in sorted(effects, key=lambda effect: effect.order):
            state = self.reduce(state, effect)
        return state
