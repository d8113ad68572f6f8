"""The context: a step's only door to the world."""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from tickover.canonical import Json, normalise
from tickover.draws import Draws
from tickover.effects import Effect, default_key
from tickover.errors import ContractError, ReadOnly, UndeclaredNeed
from tickover.workflow import Step, Workflow

CallPort = Callable[[str, str, dict[str, Any]], Json]


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise ReadOnly(
        "the state and the results are read-only; emit an effect, or work on a copy (copy.deepcopy gives a plain one)"
    )


class ReadOnlyDict(dict[str, Any]):
    """A dict that refuses to change; a copy or pickle of it is a plain, changeable one."""

    __slots__ = ()
    __setitem__ = __delitem__ = clear = pop = popitem = setdefault = update = _refuse
    __ior__ = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return (dict, (dict(self),))

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return {key: thaw(value) for key, value in self.items()}


class ReadOnlyList(list[Any]):
    """A list that refuses to change; a copy or pickle of it is a plain, changeable one."""

    __slots__ = ()
    __setitem__ = __delitem__ = append = clear = extend = insert = pop = remove = reverse = sort = _refuse
    __iadd__ = __imul__ = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return (list, (list(self),))

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        return [thaw(value) for value in self]


def freeze(value: Json) -> Json:
    """A read-only copy of a JSON value."""
    if isinstance(value, dict):
        return ReadOnlyDict({key: freeze(item) for key, item in value.items()})
    if isinstance(value, list):
        return ReadOnlyList([freeze(item) for item in value])
    return value


def thaw(value: Json) -> Json:
    """A plain, changeable copy of a JSON value."""
    if isinstance(value, dict):
        return {key: thaw(item) for key, item in value.items()}
    if isinstance(value, list):
        return [thaw(item) for item in value]
    return value


class Absent:
    """The result of a needed step that has none: optional and failed, or not applicable. It is false; `reason` says
    why."""

    def __init__(self, step: str, reason: str) -> None:
        self.step, self.reason = step, reason

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return f"<absent result of {self.step}: {self.reason}>"


class Results(Mapping[str, Any]):
    """The results of the declared needs, by step name; reading any other raises UndeclaredNeed. Immutable."""

    def __init__(self, step: str, needs: tuple[str, ...], found: Mapping[str, Any]) -> None:
        self._step, self._needs = step, needs
        self._found = {name: freeze(found[name]) for name in needs}

    def __getitem__(self, name: str) -> Any:
        if name not in self._found:
            raise UndeclaredNeed(self._step, name, self._needs)
        return self._found[name]

    def __contains__(self, name: object) -> bool:
        if name not in self._found:
            raise UndeclaredNeed(self._step, str(name), self._needs)
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


class PortHandle:
    """A port as a step sees it: its methods, each of which makes a call that the tape records or replays."""

    def __init__(self, name: str, methods: tuple[str, ...], call: CallPort) -> None:
        self._name, self._methods, self._call = name, methods, call

    def __getattr__(self, method: str) -> Callable[..., Json]:
        if method not in self._methods:
            known = ", ".join(self._methods)
            raise ContractError(f"port {self._name!r} has no method {method!r}; it has {known}")

        def call(**request: Any) -> Json:
            return self._call(self._name, method, normalise(request))

        return call


class TickContext:
    """What one attempt of one step may read and do.

    run, tick, step, attempt (from 1): which attempt this is. state: the snapshot at the tick's start, read-only.
    input: the tick's input, read-only. results: results of declared needs only; a need without one is an `Absent`.
    failure: in a fallback, what the last attempt failed with. time_scale: 1.0 is real time.
    """

    def __init__(
        self,
        *,
        workflow: Workflow,
        step: Step,
        run: str,
        tick: int,
        attempt: int,
        state: Json,
        results: Mapping[str, Any],
        draws: Draws,
        call_port: CallPort,
        input: Json = None,
        time_scale: float = 1.0,
        failure: str | None = None,
    ) -> None:
        self.run, self.tick, self.step, self.attempt = run, tick, step.name, attempt
        self.time_scale, self.failure = time_scale, failure
        self.state: Any = freeze(state)
        self.input: Any = freeze(input)
        self.results = Results(step.name, step.needs, results)
        self._workflow, self._draws, self._call_port = workflow, draws, call_port
        self._effects: list[Effect] = []
        self._keys: Counter[str] = Counter()

    @property
    def diverged(self) -> tuple[str, ...]:
        """The doors ("ids", "now", "random") at which this attempt drew more or otherwise than the record that it was
        to follow; empty without a record."""
        return tuple(sorted(getattr(self._draws, "diverged", ())))

    @property
    def now(self) -> dt.datetime:
        """The instant, aware, in UTC; the same at every attempt, whatever the clock says."""
        return self._draws.now()

    @property
    def random(self) -> random.Random:
        """A random generator whose numbers are the same at every attempt."""
        return self._draws.random

    def new_id(self) -> uuid.UUID:
        """The next identifier, the same at every attempt."""
        return self._draws.new_id()

    def port(self, name: str) -> PortHandle:
        """The port of that name. Raises WorkflowError if the workflow has none."""
        return PortHandle(name, self._workflow.port(name).methods, self._call_port)

    def emit(self, kind: str, payload: Any, *, key: str | None = None) -> None:
        """Declare an effect; it exists once this attempt is committed, and not otherwise.

        kind: what sort of thing. payload: a value with a JSON form. key: names it in its kind; None numbers it.
        Raises NotCanonical.
        """
        default = default_key(self.tick, self.step, kind, self._keys[kind])
        self._keys[kind] += 1
        self._effects.append(
            Effect(
                step=self.step,
                position=self._workflow.positions[self.step],
                number=len(self._effects),
                kind=kind,
                payload=normalise(payload, self._workflow.normalise),
                key=default if key is None else key,
            )
        )

    @property
    def effects(self) -> tuple[Effect, ...]:
        """What this attempt has emitted so far, in order."""
        return tuple(self._effects)
