"""Connections that stop at each statement: what a test does there, before and after, is given by a hook."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg2
import psycopg2.extensions

# Called with "before STATEMENT" and "after STATEMENT", in the thread that executes it.
Hook = Callable[[str], None]


def _nothing(boundary: str) -> None:
    """No hook is set."""


class _Surroundings:
    """What all stepping connections of this process share: the hook, and what statements are rewritten to."""

    def __init__(self) -> None:
        self.hook: Hook = _nothing
        self.rewrites: Mapping[str, str] = {}
        self.rewritten = 0

    def rewrite(self, statement: Any) -> Any:
        for text, other in self.rewrites.items():
            if isinstance(statement, str) and text in statement:
                self.rewritten += 1
                statement = statement.replace(text, other)
        return statement


surroundings = _Surroundings()


class _Cursor(psycopg2.extensions.cursor):
    def execute(self, query: Any, vars: Any = None) -> None:
        name = " ".join(str(query).split())[:70]
        surroundings.hook(f"before {name}")
        super().execute(surroundings.rewrite(query), vars)
        surroundings.hook(f"after {name}")


class _Connection(psycopg2.extensions.connection):
    def cursor(self, *arguments: Any, **named: Any) -> Any:
        return super().cursor(*arguments, **{"cursor_factory": _Cursor, **named})

    def commit(self) -> None:
        surroundings.hook("before COMMIT")
        super().commit()
        surroundings.hook("after COMMIT")


def install(hook: Hook, rewrites: Mapping[str, str] | None = None) -> None:
    """Have every connection that this process opens from now on step by the hook.

    rewrites: text in a statement -> what stands there instead; this is how a defect is planted in code as it stands.
    """
    surroundings.hook, surroundings.rewrites, surroundings.rewritten = hook, rewrites or {}, 0
    if not isinstance(psycopg2.connect, _Connect):
        psycopg2.connect = _Connect(psycopg2.connect)


class _Connect:
    def __init__(self, original: Callable[..., Any]) -> None:
        self.original = original

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self.original(*arguments, **{"connection_factory": _Connection, **named})


@contextmanager
def stepping(hook: Hook, rewrites: Mapping[str, str] | None = None) -> Iterator[_Surroundings]:
    """The same while the context lasts."""
    install(hook, rewrites)
    try:
        yield surroundings
    finally:
        surroundings.hook, surroundings.rewrites = _nothing, {}
        if isinstance(psycopg2.connect, _Connect):
            psycopg2.connect = psycopg2.connect.original
