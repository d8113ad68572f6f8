"""Rules: differences that someone has answered for, with reason, owner and expiry, read from `rules.toml`.

A rule hides a difference from the verdict and never from the record: what each hid is counted, the verdict without
rules stands beside the one with them, and a rule whose day has passed hides nothing.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import math
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from shadow.diff import Change, Nature, generalise
from shadow.observation import Observation
from tickover.canonical import Json, canonical_text, digest
from tickover.errors import ConfigurationError

AREAS = ("status", "calls", "result", "effects", "state")
_NUMBERS = ("absolute", "relative", "seconds")
_KEYS = ("name", "action", "step", "area", "path", "reason", "owner", "expires", *_NUMBERS)


class BadRules(ConfigurationError):
    """A file of rules cannot be read; the message names file, rule and key."""


class Action(StrEnum):
    """What a rule does."""

    TOLERATE = "tolerate"  # numbers or instants within a distance
    IGNORE = "ignore"  # whatever differs there
    REDACT = "redact"  # the value is stored as a hash; equal ones stay equal


@dataclass(frozen=True, kw_only=True, slots=True)
class Tolerance:
    """A rule that hid a difference; immutable."""

    rule: str
    reason: str
    owner: str


# (step, area, change) -> the rule that tolerates the change, or None.
Rules = Callable[[str, str, Change], Tolerance | None]


def no_rules(step: str, area: str, change: Change) -> Tolerance | None:
    """Tolerates nothing."""
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One rule; immutable.

    step: its name, "state", or "*" for all. area: one of AREAS, None for all. path: as findings show it, indexes as
    `[*]`; `*` stands for any part of a name, `**` for anything. expires: the last day on which it holds. absolute,
    relative: how far numbers may be apart (the larger allowance holds); seconds: the same for instants.
    """

    name: str
    action: Action
    step: str
    path: str
    reason: str
    owner: str
    expires: dt.date
    area: str | None = None
    absolute: float = 0.0
    relative: float = 0.0
    seconds: float = 0.0

    def covers(self, step: str, area: str, path: str) -> bool:
        """Whether it speaks of this place."""
        return (
            self.step in ("*", step)
            and self.area in (None, area)
            and re.fullmatch(_pattern(self.path), path) is not None
        )

    def allows(self, change: Change) -> bool:
        """Whether it hides this change, at a place that it covers."""
        if self.action is Action.IGNORE:
            return True
        if self.action is not Action.TOLERATE or change.nature not in (Nature.VALUE, Nature.TYPE):
            return False
        one, two = change.control, change.candidate
        if self.seconds and isinstance(one, str) and isinstance(two, str):
            return _apart_s(one, two) <= self.seconds
        if any(isinstance(value, bool) or not isinstance(value, int | float) for value in (one, two)):
            return False
        return math.isclose(one, two, rel_tol=self.relative, abs_tol=self.absolute)


def _pattern(path: str) -> str:
    parts = re.split(r"(\[\*\]|\*\*|\*)", path)
    meaning = {"[*]": r"\[\*\]", "**": ".*", "*": r"[^.\[]*"}
    return "".join(meaning.get(part, re.escape(part)) for part in parts)


def _apart_s(one: str, two: str) -> float:
    try:
        return abs((dt.datetime.fromisoformat(one) - dt.datetime.fromisoformat(two)).total_seconds())
    except (ValueError, TypeError):
        return math.inf


@dataclass(frozen=True, kw_only=True)
class RuleBook:
    """The rules of a run, as they hold on a day; immutable and callable as `Rules`."""

    rules: tuple[Rule, ...] = ()
    today: dt.date | None = None

    def __call__(self, step: str, area: str, change: Change) -> Tolerance | None:
        """The first rule that hides the change, or None. An expired one hides nothing."""
        path = generalise(change.path)
        today = self.today or dt.datetime.now(dt.UTC).date()
        for rule in self.rules:
            if rule.expires >= today and rule.covers(step, area, path) and rule.allows(change):
                return Tolerance(rule=rule.name, reason=rule.reason, owner=rule.owner)
        return None

    def expired(self, today: dt.date) -> tuple[str, ...]:
        """The names of the rules whose last day has passed."""
        return tuple(rule.name for rule in self.rules if rule.expires < today)

    def redact(self, seen: Observation) -> Observation:
        """The observation with hashes in place of what is to be redacted in results and effects.

        The state is left as it is, and so is the tape: ticks are run again from them.
        """
        rules = [rule for rule in self.rules if rule.action is Action.REDACT]
        if not rules:
            return seen
        steps = {
            name: replace(step, result=_redacted(step.result, rules, name, "result", ()))
            for name, step in seen.steps.items()
        }
        effects = tuple(
            replace(item, effect=replace(item.effect, payload=_redacted(
                item.effect.payload, rules, item.effect.step, "effects", (item.effect.kind,))))
            for item in seen.effects
        )  # fmt: skip
        return replace(seen, steps=steps, effects=effects)

    @property
    def digest(self) -> str:
        """What identifies the rules."""
        return digest({"rules": self.to_json()})

    def to_json(self) -> list[dict[str, Any]]:
        """The rules as a JSON document that `from_json` reads."""
        return [
            {**asdict(rule), "action": rule.action.value, "expires": rule.expires.isoformat()} for rule in self.rules
        ]

    @classmethod
    def from_json(cls, document: Sequence[Mapping[str, Any]]) -> RuleBook:
        """The rules that `to_json` wrote."""
        return cls(rules=tuple(_rule(dict(each), "stored rules", number) for number, each in enumerate(document, 1)))


def _redacted(value: Json, rules: Sequence[Rule], step: str, area: str, path: tuple[str | int, ...]) -> Json:
    if any(rule.covers(step, area, generalise(path)) for rule in rules):
        return None if value is None else "sha256:" + hashlib.sha256(canonical_text(value).encode()).hexdigest()
    if isinstance(value, dict):
        return {key: _redacted(item, rules, step, area, (*path, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_redacted(item, rules, step, area, (*path, index)) for index, item in enumerate(value)]
    return value


def load_rules(name: str) -> RuleBook:
    """The rules in a TOML file. Raises BadRules."""
    try:
        return parse_rules(Path(name).read_text(encoding="utf-8"), source=name)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise BadRules(f"cannot read the rules {name}: {reason}") from error


def parse_rules(text: str, *, source: str) -> RuleBook:
    """The rules in a TOML text; `source` is named in errors. Raises BadRules."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadRules(f"{source} is no TOML: {error}") from error
    unknown = [key for key in document if key != "rule"]
    tables = document.get("rule", [])
    if unknown or not isinstance(tables, list):
        raise BadRules(f"{source}: `{unknown[0] if unknown else 'rule'}` is unknown; rules are tables `[[rule]]`")
    rules = tuple(_rule(dict(table), source, number) for number, table in enumerate(tables, 1))
    names = [rule.name for rule in rules]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise BadRules(f"{source}: two rules are named {double!r}")
    return RuleBook(rules=rules)


def _rule(table: dict[str, Any], source: str, number: int) -> Rule:
    def bad(key: str, what: str) -> BadRules:
        return BadRules(f"{source}: `{key}` of rule {table.get('name', number)!r} {what}")

    for key in table:
        if key not in _KEYS:
            raise bad(key, f"is unknown; known are {', '.join(_KEYS)}")
    for key in ("name", "step", "path", "reason", "owner"):
        if not isinstance(table.get(key), str) or not table[key]:
            raise bad(key, "must be a text")
    try:
        action = Action(table.get("action", ""))
    except ValueError:
        raise bad("action", f"must be one of {', '.join(Action)}") from None
    expires = table.get("expires")
    if isinstance(expires, str):
        try:
            expires = dt.date.fromisoformat(expires)
        except ValueError:
            raise bad("expires", f"is no day: {expires!r}") from None
    if not isinstance(expires, dt.date) or isinstance(expires, dt.datetime):
        raise bad("expires", "must be a day, like 2027-01-31: a rule that never ends is forgotten")
    if table.get("area") is not None and table["area"] not in AREAS:
        raise bad("area", f"must be one of {', '.join(AREAS)}")
    numbers: dict[str, float] = {}
    for key in _NUMBERS:
        value = table.get(key, 0.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise bad(key, "must be a number, 0 at least")
        numbers[key] = float(value)
    if (action is Action.TOLERATE) != any(numbers.values()):
        raise bad("action", "goes with `absolute`, `relative` or `seconds` if and only if it is tolerate")
    return Rule(
        name=table["name"], action=action, step=table["step"], path=table["path"], reason=table["reason"],
        owner=table["owner"], expires=expires, area=table.get("area"), **numbers,
    )  # fmt: skip
