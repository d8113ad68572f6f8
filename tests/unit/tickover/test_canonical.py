"""Canonical JSON: laws, the table of what is normalised, and the table of what is refused."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickover.canonical import (
    MAX_DEPTH,
    canonical_bytes,
    canonical_text,
    digest,
    equal,
    equal_plain,
    normalise,
    parse,
)
from tickover.errors import NotCanonical

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def strictly_equal(left: Any, right: Any) -> bool:
    """Equality of JSON values that tells 1, 1.0 and True, and 0.0 and -0.0, apart: the law, written another way."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(strictly_equal(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(strictly_equal, left, right))
    if isinstance(left, float):
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    return bool(left == right)


@given(documents)
def test_text_round_trips(value: Any) -> None:
    """Parsing the canonical text gives the value back, and its canonical text is the same again."""
    text = canonical_text(value)
    assert strictly_equal(parse(text), value)
    assert canonical_text(parse(text)) == text


@given(documents, documents)
def test_values_are_equal_if_and_only_if_their_bytes_are(left: Any, right: Any) -> None:
    """Equal bytes mean equal values, and equal values equal bytes, hashes and `equal`."""
    same = strictly_equal(left, right)
    assert (canonical_bytes(left) == canonical_bytes(right)) is same
    assert (digest(left) == digest(right)) is same
    assert equal(left, right) is same


@given(st.dictionaries(texts, scalars, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_matter(value: dict[str, Any], random: Any) -> None:
    """A dict filled in another order has the same bytes."""
    items = list(value.items())
    random.shuffle(items)
    assert canonical_bytes(dict(items)) == canonical_bytes(value)


@given(documents)
def test_normalising_is_idempotent_and_leaves_its_argument_alone(value: Any) -> None:
    """Plain JSON is normalised to itself, as a copy."""
    before = json.dumps(value)
    once = normalise(value)
    assert strictly_equal(once, value)
    assert strictly_equal(normalise(once), once)
    assert json.dumps(value) == before


@given(documents)
def test_the_form_is_json_in_utf8_without_white_space(value: Any) -> None:
    """Any JSON parser reads the bytes; keys are sorted by code point."""
    loaded = json.loads(canonical_bytes(value))
    again = json.dumps(loaded, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    assert again == canonical_bytes(value).decode("utf-8")


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Word(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "not the value"


class Real(float):
    """As numpy's float64 is."""


Point = collections.namedtuple("Point", "x y")


@dataclasses.dataclass
class Pair:
    left: Any
    right: Any


AWARE = dt.datetime(2024, 5, 6, 7, 8, 9, 12, tzinfo=dt.timezone(dt.timedelta(hours=2)))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ((1, (2,)), "[1,[2]]"),
        (Point(1, 2), "[1,2]"),
        (Colour.RED, '"red"'),
        (Level.HIGH, "3"),
        (Word("said"), '"said"'),
        (Real(1.5), "1.5"),
        (AWARE, '"2024-05-06T05:08:09.000012Z"'),
        (dt.datetime(99, 1, 2, tzinfo=dt.UTC), '"0099-01-02T00:00:00.000000Z"'),
        (dt.date(2024, 5, 6), '"2024-05-06"'),
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (Pair((1,), {"b": Colour.RED}), '{"left":[1],"right":{"b":"red"}}'),
        (collections.OrderedDict(b=1, a=2), '{"a":2,"b":1}'),
        (collections.ChainMap({"a": 1}), '{"a":1}'),
        ({Word("key"): 1}, '{"key":1}'),
        ([True, 1, 1.0, -0.0, 1e16, 0.1], "[true,1,1.0,-0.0,1e+16,0.1]"),
        ({"é": 1, "z": 2, "𝄞": 3}, '{"z":2,"é":1,"𝄞":3}'),
        ("\u2028\n", '"\u2028\\n"'),
    ],
)
def test_what_is_normalised(value: Any, text: str) -> None:
    """Each row of the published table, and the form of numbers, keys and text."""
    assert canonical_text(value) == text


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        ({"a": [dt.datetime(2024, 1, 1)]}, "a[0]", "without a time zone"),
        ({"a": {1}}, "a", "set has no JSON form"),
        (frozenset(), "", "frozenset has no JSON form"),
        ({"a": {"b": b"x"}}, "a.b", "bytes has no JSON form"),
        (decimal.Decimal("1.0"), "", "Decimal has no JSON form"),
        (1j, "", "complex has no JSON form"),
        ([math.nan], "[0]", "not a JSON number"),
        (Real(math.inf), "", "not a JSON number"),
        ({"a": {1: 2}}, "a", "JSON keys are strings"),
        ({"a": "\ud800"}, "a", "lone surrogate"),
        ({"\udfff": 1}, "", "lone surrogate"),
        (object(), "", "object has no JSON form"),
        (Pair, "", "type has no JSON form"),
        ({"a": 10**5000}, "a", "cannot be read back"),
    ],
)
def test_what_is_refused(value: Any, path: str, reason: str) -> None:
    """What JSON does not have is refused by name, with its place; nothing is altered in silence."""
    with pytest.raises(NotCanonical, match=reason) as refused:
        canonical_text(value)
    assert refused.value.path == path


def test_a_key_that_stands_twice_is_refused() -> None:
    """Two keys that differ only in type would fall together: refused, not merged; so in a text."""
    with pytest.raises(NotCanonical, match="stands twice"):
        normalise(Twice(a=1))
    with pytest.raises(NotCanonical, match="'a' stands twice"):
        parse('{"a":1,"b":2,"a":1}')


class Twice(dict):  # type: ignore[type-arg]
    """A mapping whose items repeat a key."""

    def items(self) -> Any:
        return [*super().items(), *super().items()]

    def keys(self) -> Any:
        return ["a", "a"]


def test_what_no_json_number_can_be_is_refused_on_reading() -> None:
    """NaN, infinities and numbers over the range of a float are no values."""
    for text in ("NaN", "[Infinity]", "-Infinity", "1e999", "-1e999"):
        with pytest.raises(NotCanonical):
            parse(text)
    with pytest.raises(ValueError):
        parse("{")


def test_depth_is_bounded_and_a_circle_is_refused() -> None:
    """Nesting up to the limit is a value; deeper, or a list in itself, is refused and never overflows the stack."""

    def nested(depth: int) -> list[Any]:
        value: list[Any] = []
        for _ in range(depth):
            value = [value]
        return value

    assert parse(canonical_text(nested(MAX_DEPTH)))
    with pytest.raises(NotCanonical, match="nested deeper"):
        canonical_text(nested(MAX_DEPTH + 1))
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(NotCanonical, match="contains itself"):
        canonical_text(circle)


def test_own_rules_come_first_and_apply_all_the_way_down() -> None:
    """`extra` converts one's own types wherever they stand, and is not asked for plain values."""
    asked: list[Any] = []

    def rule(value: Any) -> Any:
        asked.append(value)
        if isinstance(value, set):
            return sorted(value)
        if isinstance(value, decimal.Decimal):
            return Pair(str(value), None)
        return value

    value = {"a": {3, 1}, "b": (decimal.Decimal("1.50"),), "c": [1, "x", None, 2.0, True]}
    assert canonical_text(value, rule) == '{"a":[1,3],"b":[{"left":"1.50","right":null}],"c":[1,"x",null,2.0,true]}'
    assert not any(isinstance(one, str | int | float) or one is None for one in asked)
    with pytest.raises(NotCanonical, match="nested deeper"):
        normalise(object(), lambda value: [value])


@given(documents, documents)
def test_plain_values_are_equal_if_and_only_if_their_canonical_bytes_are(left: Any, right: Any) -> None:
    """The quick answer for plain values is that of the canonical bytes, for a copy too."""
    copied = parse(json.dumps(left))
    assert equal_plain(left, right) == (canonical_bytes(left) == canonical_bytes(right))
    assert equal_plain(left, copied)


@pytest.mark.parametrize(("left", "right"), [(1, 1.0), (1, True), (0.0, -0.0), ("1", 1), (None, False), ([], {})])
def test_plain_values_of_other_types_are_not_equal(left: Any, right: Any) -> None:
    """What Python holds for equal, or close, is not equal where the bytes differ."""
    assert not equal_plain([left], [right])


def test_plain_values_of_another_order_are_equal() -> None:
    """Objects with the same members are equal in whatever order these stand."""
    assert equal_plain({"a": 1, "b": [2]}, {"b": [2], "a": 1})
