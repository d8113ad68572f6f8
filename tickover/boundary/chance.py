"""Randomness and identifiers: what legacy takes from `random`, `uuid`, and what it takes beside them.

Numbers are noted at the level of the two primitives, `random()` and `getrandbits(k)`: every other method of a
generator is made of them, so a candidate that makes the same calls draws the same values.
"""

from __future__ import annotations

import functools
import os
import random
import secrets
import uuid
from collections.abc import Callable
from typing import Any

from tickover.boundary.session import current_for_user, session

# A draw belongs to whoever called the generator, not to the code that makes one kind of number from another.
_SKIPPED = frozenset({random.__file__, __file__})


class _Watched(random.Random):
    """The generator behind the module's functions: the same numbers, noted for the step that drew them."""

    def random(self) -> float:
        value = super().random()
        book = current_for_user(skip=_SKIPPED)
        if book is not None:
            book.note(book.noted_random, ["random", None, value])
        return value

    def getrandbits(self, k: int, /) -> int:
        value = super().getrandbits(k)
        book = current_for_user(skip=_SKIPPED)
        if book is not None:
            book.note(book.noted_random, ["getrandbits", k, value])
        return value


def install() -> list[str]:
    """Watch randomness and identifiers. Returns the names of what is watched now."""
    _install_random()
    for name in ("uuid1", "uuid4", "uuid6", "uuid7"):
        if hasattr(uuid, name):
            setattr(uuid, name, _watched_id(getattr(uuid, name)))
    os.urandom = _named(os.urandom, "os.urandom")
    for name in ("token_bytes", "token_hex", "token_urlsafe", "choice", "randbelow", "randbits"):
        setattr(secrets, name, _named(getattr(secrets, name), "secrets"))
    return ["randomness: random", "identifiers: uuid"]


def _install_random() -> None:
    old: random.Random = random._inst
    shared = _Watched()
    shared.setstate(old.getstate())
    random._inst = shared
    for name in dir(random):
        function = getattr(random, name)
        if getattr(function, "__self__", None) is old:
            setattr(random, name, _dispatched(name, shared, function))
    real_seed = random.Random.seed

    @functools.wraps(real_seed)
    def seed(self: random.Random, a: Any = None, version: int = 2) -> None:
        unseeded = a is None and not isinstance(self, _Watched | random.SystemRandom)
        if unseeded and current_for_user(skip=_SKIPPED) is not None:
            session.unobserved("random.Random() without a seed")
        real_seed(self, a, version)

    random.Random.seed = seed  # type: ignore[method-assign]


def _dispatched(name: str, shared: random.Random, real: Callable[..., Any]) -> Callable[..., Any]:
    own = getattr(shared, name)

    @functools.wraps(real)
    def draw(*args: Any, **kwargs: Any) -> Any:
        book = current_for_user()
        if book is None or book.records:
            return own(*args, **kwargs)
        return getattr(book.draws.random, name)(*args, **kwargs)

    return draw


def _watched_id(real: Callable[..., uuid.UUID]) -> Callable[..., uuid.UUID]:
    @functools.wraps(real)
    def make(*args: Any, **kwargs: Any) -> uuid.UUID:
        book = current_for_user()
        if book is not None and not book.records:
            return book.draws.new_id()
        value = real(*args, **kwargs)
        if book is not None:
            book.note(book.noted_ids, str(value))
        return value

    return make


def _named(real: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(real)
    def draw(*args: Any, **kwargs: Any) -> Any:
        if current_for_user() is not None:
            session.unobserved(name)
        return real(*args, **kwargs)

    return draw
