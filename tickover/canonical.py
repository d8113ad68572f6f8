"""Canonical JSON: the one form in which values are stored, hashed and compared.

Two values are equal if and only if their canonical bytes are equal. The form: UTF-8, keys sorted by code point, no
white space, the shortest floats that round-trip, no NaN or infinity, no duplicate keys. An integer and a float
differ (`1`, `1.0`).

What JSON does not have is normalised by this table, or refused by name; nothing is altered in silence.

=====================  =========================================================================
Python                 canonical form
=====================  =========================================================================
tuple                  array
str, int subclass,     its plain value (an Enum: its value)
Enum
aware datetime         string, UTC, RFC 3339 with microseconds and `Z`
date                   string, ISO 8601
UUID                   string
dataclass instance     object of its fields
mapping                object; keys must be strings
refused                naive datetime, set, frozenset, bytes, Decimal, complex, NaN, infinity, keys
                       that are not strings, lone surrogates, any other type
=====================  =========================================================================
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import hashlib
import json
import marshal
import math
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from tickover.errors import NotCanonical

# What a value may be once it is normalised.
Json = Any
Normaliser = Callable[[Any], Any]

# Documents deeper than this are refused: the recursion of a JSON parser must never be what fails.
MAX_DEPTH = 200

# Python refuses to write or read integers of more than 4300 decimal digits; this is less.
MAX_INTEGER_BITS = 14_000

_encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode
_PLAIN = (str, int, float, bool, type(None))


def normalise(value: Any, extra: Normaliser | None = None) -> Json:
    """The value in plain JSON types (dict, list, str, int, float, bool, None), by the module's table.

    `extra` is asked first for each value that is not of a plain type; it returns the replacement, or the value itself
    where it has no opinion. Raises NotCanonical with the path of the culprit. The argument is not changed.
    """
    return _normalise(value, extra, "", 0)


def _normalise(value: Any, extra: Normaliser | None, path: str, depth: int) -> Json:
    kind = type(value)
    if kind is str:
        return _text(value, path)
    if kind is int:
        if value.bit_length() > MAX_INTEGER_BITS:
            raise NotCanonical(path, f"an integer of more than {MAX_INTEGER_BITS} bits cannot be read back")
        return value
    if kind is bool or value is None:
        return value
    if kind is float:
        if not math.isfinite(value):
            raise NotCanonical(path, f"{value!r} is not a JSON number")
        return value
    if depth > MAX_DEPTH:
        raise NotCanonical(path, f"nested deeper than {MAX_DEPTH} levels (or it contains itself)")
    if kind is dict or (extra is None and isinstance(value, Mapping)):
        return _object(value, extra, path, depth)
    if kind is list or kind is tuple:
        return [_normalise(item, extra, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
    if extra is not None:
        replaced = extra(value)
        if replaced is not value:
            return _normalise(replaced, extra, path, depth + 1)
    return _other(value, extra, path, depth)


def _object(value: Mapping[Any, Any], extra: Normaliser | None, path: str, depth: int) -> dict[str, Json]:
    plain: dict[str, Json] = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise NotCanonical(path, f"the key {key!r} is of type {type(key).__name__}; JSON keys are strings")
        name = _text(str.__str__(key), path)
        if name in plain:
            raise NotCanonical(path, f"the key {name!r} stands twice")
        plain[name] = _normalise(item, extra, f"{path}.{name}" if path else name, depth + 1)
    return plain


def _other(value: Any, extra: Normaliser | None, path: str, depth: int) -> Json:
    if isinstance(value, enum.Enum):
        return _normalise(value.value, extra, path, depth + 1)
    if isinstance(value, dt.datetime):
        if value.tzinfo is None:
            raise NotCanonical(path, "a datetime without a time zone says no instant; give it one (UTC)")
        utc = value.astimezone(dt.UTC)
        return utc.strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return _object(fields, extra, path, depth)
    for plain in (str, int, float, dict, list, tuple):
        if isinstance(value, plain):
            return _normalise(_as_base(value, plain), extra, path, depth + 1)
    if isinstance(value, Mapping):
        return _object(value, extra, path, depth)
    raise NotCanonical(path, f"{type(value).__name__} has no JSON form; convert it, or name a rule in `normalise`")


def _as_base(value: Any, base: type) -> Any:
    if base in (dict, list, tuple):
        return base(value)
    return base.__getnewargs__(value)[0] if base is not float else float.__float__(value)  # type: ignore[attr-defined]


def _text(value: str, path: str) -> str:
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise NotCanonical(path, "a lone surrogate has no UTF-8 form") from error
    return value


def canonical_text(value: Any, extra: Normaliser | None = None) -> str:
    """The canonical JSON of a value, as text. Raises NotCanonical."""
    return _encode(_normalise(value, extra, "", 0))


def equal_plain(left: Json, right: Json) -> bool:
    """Whether two plain JSON values, as `parse` and `normalise` return them, have the same canonical bytes.

    It costs a small part of writing these. For other values the answer means nothing.
    """
    # Version 2 writes types and values one to one, without references; what differs there by the order of keys alone
    # is decided by the text.
    return marshal.dumps(left, 2) == marshal.dumps(right, 2) or _encode(left) == _encode(right)


def canonical_bytes(value: Any, extra: Normaliser | None = None) -> bytes:
    """The canonical JSON of a value, as UTF-8. Raises NotCanonical."""
    return canonical_text(value, extra).encode("utf-8")


def digest(value: Any, extra: Normaliser | None = None) -> str:
    """The SHA-256 of the canonical bytes, in hexadecimal. Raises NotCanonical."""
    return hashlib.sha256(canonical_bytes(value, extra)).hexdigest()


def equal(left: Any, right: Any) -> bool:
    """Whether two values have the same canonical bytes. Raises NotCanonical."""
    return left is right or canonical_text(left) == canonical_text(right)


def parse(text: str | bytes) -> Json:
    """The value of a JSON text. Raises NotCanonical for NaN, infinity and duplicate keys, ValueError for no JSON."""
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise NotCanonical("", f"the key {key!r} stands twice")
            seen.add(key)
    return found


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise NotCanonical("", f"{text} is too large for a JSON number")
    return value


def _refuse_constant(name: str) -> Any:
    raise NotCanonical("", f"{name} is not a JSON number")
