"""Handing over: the old system's store gets the state that the new one left, and that it got it is remembered.

Remembered, because the store must not be written a second time: the old system may have run meanwhile, by hand or by
what started it before there was a route, and what it wrote would be lost.
"""

from __future__ import annotations

from pathlib import Path

from async_tick.adoption import owner_of, transaction
from tickover.execution import System

_WRITTEN_TO = "SELECT written_to FROM states WHERE run = %s AND tick = %s"
_MARK = "UPDATE states SET written_to = %s WHERE run = %s AND tick = %s"


def is_behind(run: str, tick: int, home: Path, connection: object = None) -> bool:
    """Whether the old system's store in `home` lacks what was written before a tick that nobody of it has begun.

    tick: the next one. connection: as in `async_tick.adoption`.
    """
    if tick == 0 or System.LEGACY in (owner_of(run, tick - 1, connection), owner_of(run, tick, connection)):
        return False
    with transaction(connection) as do:
        do.execute(_WRITTEN_TO, (run, tick - 1))
        row = do.fetchone()
    return row is None or row[0] != str(home.absolute()) or not has_content(home)


def has_content(home: Path) -> bool:
    """Whether there is anything in a home: one that was removed holds no state, whatever is remembered."""
    return home.is_dir() and any(home.iterdir())


def mark_written(run: str, tick: int, home: Path, connection: object = None) -> None:
    """Remember that the store in `home` got the state after the tick before this one."""
    with transaction(connection) as do:
        do.execute(_MARK, (str(home.absolute()), run, tick - 1))
