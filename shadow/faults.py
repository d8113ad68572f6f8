"""Kinds of fault as data, and plans of which to inject: `standard`, and plans in TOML files."""

from __future__ import annotations

import difflib
import random
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tickover.draws import seed_of
from tickover.errors import ConfigurationError
from tickover.workflow import Workflow

STANDARD = "standard"
# Trials of each kind where nothing else is said: what the policy `production` asks for at least.
TRIALS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultKind:
    """One kind of fault; immutable.

    what: what it does. window_s: seconds within which the step must run again, fixed beforehand; time counts `since`
    the fault, or since the step's limit where nothing is wrong before that. steps: which steps it can strike: any,
    the first ones (a worker goes on with others without being told), those with port calls, or those with time left.
    on_legacy: what it is there; empty where the old system has no counterpart. power: what the drill must be able to
    do.
    """

    name: str
    what: str
    window_s: float
    on_legacy: str
    power: str
    steps: str = "any"
    since: str = "fault"


_SAME = "the same"
KINDS: Mapping[str, FaultKind] = {
    kind.name: kind
    for kind in (
        FaultKind(
            name="transient_error", what="the step raises an error once", window_s=30, on_legacy=_SAME, power="none",
        ),
        FaultKind(
            name="permanent_error", what="the step raises an error at each attempt; recovered is who confines it: a "
            "fallback stands in, an optional step is missing alone, a critical one leaves nothing half done",
            window_s=60, on_legacy=_SAME, power="none",
        ),
        FaultKind(
            name="hang", what="the step blocks past its limit and the hard limit behind it", window_s=30,
            since="limit", on_legacy="the step blocks as long", power="none",
        ),
        FaultKind(
            name="slow_step", what="the step takes 85 % of its own limit", window_s=30, since="limit",
            on_legacy="the step takes as long, whatever the old system's limit is", steps="with time left",
            power="none",
        ),
        FaultKind(
            name="model_outage", what="every port call of the tick is refused, for as long as a first retry waits",
            window_s=60, on_legacy=_SAME, steps="with port calls", power="none",
        ),
        FaultKind(
            name="malformed_answer", what="the first answer of a port breaks off half way", window_s=30,
            on_legacy=_SAME, steps="with port calls", power="none",
        ),
        FaultKind(
            name="killed_process", what="the process that runs the step gets SIGKILL; another worker lives",
            window_s=15, on_legacy="the old system's process gets SIGKILL", power="signals to its own processes",
        ),
        FaultKind(
            name="paused_process", what="the process that runs the step is stopped until its lease is over and "
            "another has done the step; then it goes on, and its late commit must be refused",
            window_s=30, on_legacy="the process is stopped as long, and goes on",
            power="signals to its own processes",
        ),
        FaultKind(
            name="database_restart", what="PostgreSQL is stopped as by a crash and started again while the step runs",
            window_s=30, on_legacy="its SQLite files are locked for two seconds (at scale 1)",
            power="a PostgreSQL of its own",
        ),
        FaultKind(
            name="killed_runner", what="whoever starts ticks gets SIGKILL between the start and its first hint",
            window_s=15, steps="first", on_legacy="the parent of the old system's process gets SIGKILL",
            power="signals to its own processes",
        ),
        FaultKind(
            name="broker_restart", what="Redis gets SIGKILL and starts empty as the step's hint is sent", window_s=30,
            on_legacy="", steps="first", power="a Redis of its own",
        ),
        FaultKind(
            name="duplicated_hint", what="the step's hint is sent twice", window_s=15, on_legacy="",
            steps="first", power="none",
        ),
        FaultKind(
            name="lost_hint", what="the step's hint is not sent", window_s=15, on_legacy="", steps="first",
            power="none",
        ),
    )
}  # fmt: skip


def kind_of(name: str, where: str) -> FaultKind:
    """The kind of that name. Raises ConfigurationError, which says `where` it stands."""
    if name not in KINDS:
        close = difflib.get_close_matches(name, KINDS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "`tickover faults list` names them"
        raise ConfigurationError(f"{where}: there is no kind of fault {name!r}; {hint}")
    return KINDS[name]


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """One entry of a plan; immutable. steps: it may strike; empty for all it can. trials: None for the plan's."""

    kind: str
    steps: tuple[str, ...] = ()
    trials: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultPlan:
    """Which faults are injected; immutable."""

    name: str
    faults: tuple[Planned, ...]
    trials: int = TRIALS


@dataclass(frozen=True, kw_only=True, slots=True)
class Shot:
    """One trial to do; immutable. steps: it may strike, in graph order; which of them, when, on which tick, and which
    system goes first, its seed decides."""

    kind: str
    steps: tuple[str, ...]
    seed: int

    def step(self) -> str:
        """The step it strikes."""
        return random.Random(seed_of(self.seed, "step")).choice(self.steps)

    def draw(self, *what: Any) -> random.Random:
        """A generator for one of its decisions."""
        return random.Random(seed_of(self.seed, *what))


def standard() -> FaultPlan:
    """The built-in plan: every kind, at every step that it can strike."""
    return FaultPlan(name=STANDARD, faults=tuple(Planned(kind=name) for name in KINDS))


def load_plan(source: str) -> FaultPlan:
    """The plan `standard`, or that of a TOML file. Raises ConfigurationError that names what is wrong."""
    if source == STANDARD:
        return standard()
    try:
        text = Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"the fault plan {source} cannot be read ({error}); name a TOML file, or `standard`"
        ) from error
    return parse_plan(text, source)


def parse_plan(text: str, source: str) -> FaultPlan:
    """The plan that a TOML text says. Raises ConfigurationError naming the key."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{source} is no TOML: {error}") from error
    _known(document, ("format", "name", "trials", "fault"), source, "")
    if document.get("format") != 1:
        raise ConfigurationError(f"{source}: `format` must be 1, not {document.get('format')!r}")
    entries = document.get("fault")
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigurationError(f"{source}: `fault` must be at least one [[fault]] table with a `kind`")
    return FaultPlan(
        name=_text(document.get("name", Path(source).stem), source, "name"),
        trials=_count(document.get("trials", TRIALS), source, "trials"),
        faults=tuple(_planned(entry, source, f"fault[{number}].") for number, entry in enumerate(entries)),
    )


def _planned(entry: Mapping[str, Any], source: str, at: str) -> Planned:
    _known(entry, ("kind", "steps", "trials"), source, at)
    if "kind" not in entry:
        raise ConfigurationError(f"{source}: `{at}kind` is missing")
    kind = kind_of(_text(entry["kind"], source, f"{at}kind"), f"{source}: `{at}kind`")
    steps = entry.get("steps", [])
    if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
        raise ConfigurationError(f"{source}: `{at}steps` must be a list of step names")
    trials = None if "trials" not in entry else _count(entry["trials"], source, f"{at}trials")
    return Planned(kind=kind.name, steps=tuple(steps), trials=trials)


def _known(table: Mapping[str, Any], keys: Sequence[str], source: str, at: str) -> None:
    for key in table:
        if key not in keys:
            close = difflib.get_close_matches(key, keys, n=1)
            hint = f"did you mean `{close[0]}`?" if close else f"known are {', '.join(keys)}"
            raise ConfigurationError(f"{source}: `{at}{key}` is unknown; {hint}")


def _text(value: Any, source: str, key: str) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{source}: `{key}` must be a text")
    return value


def _count(value: Any, source: str, key: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"{source}: `{key}` must be a whole number above 0, not {value!r}")
    return value


def strikable(workflow: Workflow, kind: FaultKind, calling: set[str], idle: set[str]) -> tuple[str, ...]:
    """The steps that a kind can strike, in graph order. calling: those that make port calls. idle: those with time
    left within 85 % of their limit."""
    return tuple(name for name in workflow.order if _can_strike(workflow, kind, name, calling, idle))


def _can_strike(workflow: Workflow, kind: FaultKind, name: str, calling: set[str], idle: set[str]) -> bool:
    step = workflow.step(name)
    if kind.steps == "first":
        return not step.needs
    if kind.steps == "with port calls":
        return name in calling
    return kind.steps != "with time left" or name in idle


def shots(
    plan: FaultPlan, possible: Mapping[str, Sequence[str]], *, trials: int | None, seed: int
) -> list[Shot]:  # fmt: skip
    """The trials of a plan, kinds in random order. possible: kind -> steps that it can strike here. trials: of each
    kind; None for what the plan says of it. Raises ConfigurationError for a step that a kind cannot strike."""
    found = list(_shots(plan, possible, trials, seed))
    random.Random(seed_of(seed, "order")).shuffle(found)
    return found


def _shots(
    plan: FaultPlan, possible: Mapping[str, Sequence[str]], trials: int | None, seed: int
) -> Iterator[Shot]:  # fmt: skip
    for place, planned in enumerate(plan.faults):
        can = possible[planned.kind]
        for step in planned.steps:
            check_step(planned.kind, step, can)
        steps = tuple(step for step in can if not planned.steps or step in planned.steps)
        if not steps:
            continue
        for number in range(trials or planned.trials or plan.trials):
            yield Shot(kind=planned.kind, steps=steps, seed=seed_of(seed, place, planned.kind, number) % 10**9)


def check_step(kind: str, step: str, possible: Sequence[str]) -> None:
    """Raise ConfigurationError if the kind cannot strike the step."""
    if step not in possible:
        named = ", ".join(possible) or "none in this run"
        raise ConfigurationError(f"{kind} cannot strike step {step!r}; the steps that it can strike are {named}")
