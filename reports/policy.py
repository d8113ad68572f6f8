"""Policies: the criteria that a verdict is made by, with their budgets, as data."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from tickover.errors import ConfigurationError

FORMAT = 1
BUILT_IN = ("production", "scaled")
# Where a policy does not say how often the old system may differ from itself: a step that is noisier than this hides
# too much to be compared.
DEFAULT_NOISE = 0.01
# The largest error that a policy may allow: a verdict that is wrong more often than once in ten times is no ground to
# switch on, or to condemn a version for good. A smaller one only takes more ticks.
MOST_ERROR = 0.1


class BadPolicy(ConfigurationError):
    """A policy cannot be read; the message names source and key."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One budgeted question; immutable.

    budget: the rate (or difference of rates) that must be shown to be undercut. critical: whether READY needs it.
    factor: how much slower than the old system a tick may be before it counts (timing). block: ticks averaged
    before they are counted, because neighbours resemble each other. within_s: seconds in which a fault must be
    recovered from.
    """

    budget: float
    critical: bool = True
    factor: float = 1.0
    block: int = 1
    within_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Gates:
    """What must have been seen, whatever it showed; immutable.

    hours: wall-clock hours at scale 1. ticks: compared ticks. ticks_per_stratum: of each kind of tick.
    trials_per_fault: drills of each kind of fault. completeness: share of started ticks that were compared. noise:
    share of ticks on which the old system may differ from itself, as an upper bound. faults: kinds of fault that must
    have been drilled; others count if they were. seldom: a step that applies on fewer than this share of the ticks,
    and has no rule of its own, can prove NOT_READY and is not waited for.
    """

    hours: float
    ticks: int
    ticks_per_stratum: int
    trials_per_fault: int
    completeness: float
    noise: float = DEFAULT_NOISE
    faults: tuple[str, ...] = ()
    seldom: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Budgets:
    """What may go wrong after a switchover before it is undone by itself; immutable. None: no such guardrail.

    window_ticks: how many ticks of the new system are watched. failed, lost, slow, mismatches: how many of them may
    be so. latency_factor: how many times the old system's median a tick may take before it is slow. hung_s: seconds
    that a tick may take at all. unserved_s: seconds that a tick may wait without any worker.
    """

    window_ticks: int = 60
    failed: int | None = 1
    lost: int | None = 2
    slow: int | None = 6
    latency_factor: float | None = 3.0
    mismatches: int | None = 1
    hung_s: float | None = 300.0
    unserved_s: float | None = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Switching:
    """When a switchover may be made, and when it is over; immutable.

    evidence_hours: how old the newest compared tick may be. quiet_hours: how long the new system must have been in
    charge before what the old one left may be deleted.
    """

    evidence_hours: float = 24.0
    quiet_hours: float = 168.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """A policy; immutable. Each rule's field is its name in the file.

    alpha: how often, at most, a system that breaks a critical budget is ever called READY. beta: how often, at most,
    one within all budgets is called NOT_READY. steps: step -> rule instead of `step_mismatch`, for steps that seldom
    apply or matter less. waived: doors that no adapter watches and that may stay so. guardrails, switchover: what
    follows a verdict; no part of what it rests on.
    """

    name: str
    alpha: float
    beta: float
    mismatch: Rule
    step_mismatch: Rule
    unverified: Rule
    failure: Rule
    speed: Rule
    tail: Rule
    far_tail: Rule
    deadline: Rule
    recovered: Rule
    recovered_in_time: Rule
    fault_damage: Rule
    noise: Rule
    gates: Gates
    steps: Mapping[str, Rule] = field(default_factory=dict)
    waived: tuple[str, ...] = ()
    guardrails: Budgets = field(default_factory=Budgets)
    switchover: Switching = field(default_factory=Switching)

    def step(self, name: str) -> Rule:
        """The rule for mismatches of a step."""
        return self.steps.get(name, self.step_mismatch)

    def check_steps(self, names: Collection[str]) -> None:
        """Nothing, if all steps that have a rule of their own are among `names`. Raises BadPolicy for another: its
        rule would apply to nothing, and what it was meant for would be judged by another."""
        for step in self.steps:
            if step not in names:
                close = difflib.get_close_matches(step, names, n=1)
                hint = f"did you mean `{close[0]}`?" if close else f"it has {', '.join(names)}"
                raise BadPolicy(f"policy {self.name}: `steps.{step}` names no step of this workload; {hint}")

    def to_json(self) -> dict[str, Any]:
        """The policy as a JSON document that `from_json` reads."""
        return {"format": FORMAT, **dataclasses.asdict(self)}

    def judgement(self) -> dict[str, Any]:
        """What of the document a verdict rests on. `from_json` reads it, with defaults for what follows a verdict."""
        return {name: value for name, value in self.to_json().items() if name not in _AFTER}

    @property
    def digest(self) -> str:
        """What identifies the policy as a judge: a changed guardrail makes no other evidence of a run."""
        return hashlib.sha256(json.dumps(self.judgement(), sort_keys=True).encode()).hexdigest()


_RULES = tuple(each.name for each in dataclasses.fields(Policy) if each.type == "Rule")
_AFTER = ("guardrails", "switchover")
_KEYS = ("format", "name", "alpha", "beta", *_RULES, "steps", "gates", "waived", *_AFTER)
# Guardrails that count ticks: budgets, which may be 0, and the window.
_BUDGETS = ("failed", "lost", "slow", "mismatches")
_COUNTED = ("window_ticks", *_BUDGETS)
# Which rule may say what, beside budget and critical.
_EXTRA = {
    "speed": ("factor", "block"), "tail": ("factor",), "far_tail": ("factor",), "recovered_in_time": ("within_s",),
}  # fmt: skip


def load_policy(name: str) -> Policy:
    """A built-in policy by its name, or one from a TOML file. Raises BadPolicy."""
    if name in BUILT_IN:
        text = resources.files("reports").joinpath("policies", f"{name}.toml").read_text(encoding="utf-8")
        return parse_policy(text, source=name)
    path = Path(name)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise BadPolicy(
            f"cannot read the policy {name}: {reason}; name a TOML file, or one of {', '.join(BUILT_IN)}"
        ) from error
    return parse_policy(text, source=name)


def parse_policy(text: str, *, source: str) -> Policy:
    """The policy in a TOML text; `source` is named in errors. Raises BadPolicy."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadPolicy(f"{source} is no TOML: {error}") from error
    return from_json(document, source=source)


def from_json(document: Mapping[str, Any], *, source: str) -> Policy:
    """The policy in a document of `Policy.to_json`, or as a TOML file has it. Raises BadPolicy."""
    reader = _Reader(source)
    reader.known("", document, _KEYS)
    if document.get("format") != FORMAT:
        raise reader.bad("format", f"must be {FORMAT}, the version that this Tickover reads")
    name = document.get("name")
    if not isinstance(name, str) or not name:
        raise reader.bad("name", "must be a text")
    steps = reader.table("steps", document.get("steps", {}))
    policy = Policy(
        name=name,
        alpha=reader.error("alpha", document),
        beta=reader.error("beta", document),
        gates=reader.gates(document.get("gates")),
        waived=reader.texts("waived", document.get("waived", [])),
        guardrails=reader.guardrails(document.get("guardrails", {})),
        switchover=reader.switchover(document.get("switchover", {})),
        steps={step: reader.rule(f"steps.{step}", rule, ()) for step, rule in steps.items()},
        **{rule: reader.rule(rule, document.get(rule), _EXTRA.get(rule, ())) for rule in _RULES},
    )
    if not policy.deadline.critical:
        raise reader.bad("deadline.critical", "must be true: ticks that do not fit their interval pile up")
    if not policy.mismatch.critical:
        raise reader.bad("mismatch.critical", "must be true: without it a verdict says nothing about equality")
    return policy


class _Reader:
    """Reads one policy; errors name the source and the key."""

    def __init__(self, source: str) -> None:
        self.source = source

    def bad(self, key: str, what: str) -> BadPolicy:
        return BadPolicy(f"policy {self.source}: `{key}` {what}")

    def known(self, prefix: str, table: Mapping[str, Any], keys: tuple[str, ...]) -> None:
        for key in table:
            if key not in keys:
                close = difflib.get_close_matches(str(key), keys, n=1)
                hint = f"did you mean `{close[0]}`?" if close else f"known are {', '.join(keys)}"
                raise self.bad(f"{prefix}{key}", f"is unknown; {hint}")

    def table(self, key: str, value: Any) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            raise self.bad(key, "is missing" if value is None else "must be a table")
        return value

    def texts(self, key: str, value: Any) -> tuple[str, ...]:
        if not isinstance(value, list | tuple) or not all(isinstance(each, str) and each for each in value):
            raise self.bad(key, "must be a list of texts")
        return tuple(value)

    def number(self, key: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value or abs(value) > 1e12:
            raise self.bad(key, "is missing" if value is None else f"must be a number, not {value!r}")
        return float(value)

    def share(self, key: str, table: Mapping[str, Any]) -> float:
        value = self.number(key, table.get(key.rpartition(".")[2]))
        if not 0 < value < 1:
            raise self.bad(key, f"must lie between 0 and 1, both excluded, not {value:g}")
        return value

    def error(self, key: str, table: Mapping[str, Any]) -> float:
        """How often a verdict may be wrong."""
        value = self.share(key, table)
        if value > MOST_ERROR:
            raise self.bad(key, f"must be {MOST_ERROR:g} at most, not {value:g}: it is how often a verdict is wrong")
        return value

    def rule(self, key: str, value: Any, extra: tuple[str, ...]) -> Rule:
        table = self.table(key, value)
        if set(table) != {each.name for each in dataclasses.fields(Rule)}:  # what to_json writes has every field
            self.known(f"{key}.", table, ("budget", "critical", *extra))
        for name in extra:
            if name not in table:
                raise self.bad(f"{key}.{name}", "is missing")
        critical = table.get("critical", True)
        if not isinstance(critical, bool):
            raise self.bad(f"{key}.critical", f"must be true or false, not {critical!r}")
        factor = self.number(f"{key}.factor", table.get("factor", 1.0))
        block = self.number(f"{key}.block", table.get("block", 1))
        within_s = self.number(f"{key}.within_s", table.get("within_s", 0.0))
        if factor <= 0 or within_s < 0:
            raise self.bad(f"{key}.{'factor' if factor <= 0 else 'within_s'}", "must be above 0")
        if block < 1 or block != int(block):
            raise self.bad(f"{key}.block", "must be a whole number of ticks, 1 at least")
        return Rule(
            budget=self.share(f"{key}.budget", table), critical=critical, factor=factor, block=int(block),
            within_s=within_s,
        )  # fmt: skip

    def gates(self, value: Any) -> Gates:
        table = self.table("gates", value)
        self.known("gates.", table, tuple(each.name for each in dataclasses.fields(Gates)))

        def number(name: str) -> float:
            found = self.number(f"gates.{name}", table.get(name))
            if found < 0 or (name in ("completeness", "seldom") and found > 1):
                raise self.bad(f"gates.{name}", f"must not be {found:g}")
            return found

        def whole(name: str) -> int:
            found = number(name)
            if found != int(found):
                raise self.bad(f"gates.{name}", f"must be a whole number, not {found:g}")
            return int(found)

        faults = self.texts("gates.faults", table.get("faults", []))
        if faults and not whole("trials_per_fault"):
            raise self.bad("gates.faults", "asks for drills, but `gates.trials_per_fault` is 0")
        return Gates(
            hours=number("hours"), ticks=whole("ticks"), ticks_per_stratum=whole("ticks_per_stratum"),
            trials_per_fault=whole("trials_per_fault"), completeness=number("completeness"), faults=faults,
            noise=self.share("gates.noise", table) if "noise" in table else DEFAULT_NOISE,
            seldom=number("seldom") if "seldom" in table else 0.0,
        )  # fmt: skip

    def guardrails(self, value: Any) -> Budgets:
        table = self.table("guardrails", value)
        self.known("guardrails.", table, tuple(each.name for each in dataclasses.fields(Budgets)))
        return Budgets(**{name: self.guardrail(name, table[name]) for name in table})

    def guardrail(self, name: str, value: Any) -> Any:
        """The value of a guardrail; None for one that is switched off."""
        key, counted = f"guardrails.{name}", name in _COUNTED
        if (value is False or value is None) and name != "window_ticks":
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.bad(key, f"must be a number, or false for none, not {value!r}")
        found = self.number(key, value)
        if found < 0 or (found == 0 and name not in _BUDGETS):
            raise self.bad(key, f"must {'not be negative' if name in _BUDGETS else 'be above 0'}")
        if counted and found != int(found):
            raise self.bad(key, f"must be a whole number, not {found:g}")
        return int(found) if counted else found

    def switchover(self, value: Any) -> Switching:
        table = self.table("switchover", value)
        self.known("switchover.", table, tuple(each.name for each in dataclasses.fields(Switching)))
        found = {name: self.number(f"switchover.{name}", table[name]) for name in table}
        for name, hours in found.items():
            if hours < 0:
                raise self.bad(f"switchover.{name}", f"must be hours, 0 at least, not {hours:g}")
        return Switching(**found)
