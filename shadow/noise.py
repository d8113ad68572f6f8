"""Checks by form: what is left to compare where the two systems drew clock, randomness or identifiers differently.

Where a control draws through doors that cannot be replayed in step, values that depend on such a draw differ by
right. They are still held to type, length and form: a null, a truncated identifier, an instant that is no instant
or an hour off is found.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from enum import StrEnum

from shadow.diff import Change, Nature
from tickover.canonical import Json

_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\Z", re.IGNORECASE)
_HEX = re.compile(r"[0-9a-f]{8,}\Z", re.IGNORECASE)

# Two instants of one tick are no further apart than this: more is a wrong zone or a wrong unit, not a later look at
# the clock.
INSTANT_RANGE_S = 900.0
# Two random numbers of one kind are within this factor of each other's size; an order of magnitude is not.
NUMBER_FACTOR = 1000.0


class Form(StrEnum):
    """What a leaf looks like."""

    NULL = "null"
    BOOLEAN = "boolean"
    INTEGER = "integer"
    NUMBER = "number"
    UUID = "identifier"
    INSTANT = "instant"
    NAIVE_INSTANT = "instant without zone"
    HEX = "hexadecimal"
    EMPTY = "empty text"
    TEXT = "text"
    LIST = "list"
    OBJECT = "object"


def form_of(value: Json) -> Form:
    """The form of a JSON value; of a text, by what it can be read as."""
    if value is None:
        return Form.NULL
    if isinstance(value, bool):
        return Form.BOOLEAN
    if isinstance(value, int):
        return Form.INTEGER
    if isinstance(value, float):
        return Form.NUMBER
    if isinstance(value, list):
        return Form.LIST
    if isinstance(value, dict):
        return Form.OBJECT
    return _form_of_text(value)


def _form_of_text(text: str) -> Form:
    if not text:
        return Form.EMPTY
    if _UUID.match(text):
        return Form.UUID
    instant = _instant(text)
    if instant is not None:
        return Form.NAIVE_INSTANT if instant.tzinfo is None else Form.INSTANT
    return Form.HEX if _HEX.match(text) else Form.TEXT


def _instant(text: str) -> dt.datetime | None:
    if len(text) < 16 or not text[:4].isdigit():
        return None
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError:
        return None


def same_form(control: Json, candidate: Json) -> bool:
    """Whether two leaves that may differ in value are alike in type, form and range."""
    form = form_of(control)
    if form is not form_of(candidate):
        return False
    if form in (Form.INSTANT, Form.NAIVE_INSTANT):
        one, two = dt.datetime.fromisoformat(control), dt.datetime.fromisoformat(candidate)
        return abs((one - two).total_seconds()) <= INSTANT_RANGE_S
    if form is Form.NUMBER or form is Form.INTEGER:
        return _same_range(float(control), float(candidate))
    if form in (Form.UUID, Form.HEX):
        return len(control) == len(candidate)
    return True


def _same_range(one: float, two: float) -> bool:
    if (one < 0) != (two < 0) and one and two:
        return False
    small, large = sorted((abs(one), abs(two)))
    return math.isclose(small, large) or large <= 1.0 or (small > 0 and large / small <= NUMBER_FACTOR)


def by_form(change: Change) -> Change | None:
    """What is left of a change where the values may differ and the form may not: None, or the change named `form`."""
    if change.nature in (Nature.VALUE, Nature.UNEXPLAINED) and same_form(change.control, change.candidate):
        return None
    if change.nature is Nature.ORDER:
        return None
    if change.nature in (Nature.VALUE, Nature.TYPE):
        return Change(path=change.path, nature=Nature.FORM, control=change.control, candidate=change.candidate)
    return change
