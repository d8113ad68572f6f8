"""A small old system that writes several rows of one kind in one step, and its port; loaded by name."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from tickover import Effect, Step, TickContext, Workflow, Write


class Books:
    """The old system: each tick it posts a debit, then the credits that balance it."""

    def __init__(self) -> None:
        self.db = Path(os.environ["BOOKS_HOME"]) / "books.db"

    def post(self, tick: int) -> None:
        with closing(sqlite3.connect(self.db)) as db:
            for account, amount in _entries(tick):
                db.execute("INSERT INTO entries (account, amount) VALUES (?, ?)", (account, amount))
            db.commit()

    def run(self, tick: int) -> None:
        self.post(tick)


def run_tick(tick: int) -> None:
    """What runs once a tick."""
    Books().run(tick)


def _entries(tick: int) -> list[tuple[str, int]]:
    return [("cash", -100 - tick), ("rent", 60), ("food", 40 + tick)]


def read_state(home: Path) -> dict[str, Any]:
    """The balances."""
    home.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(home / "books.db")) as db:
        db.execute("CREATE TABLE IF NOT EXISTS entries (account TEXT, amount INTEGER)")
        rows = db.execute("SELECT account, sum(amount) FROM entries GROUP BY account")
        return {"balances": dict(rows.fetchall())}


def write_state(home: Path, state: dict[str, Any]) -> None:
    """One entry per account stands for its balance."""
    read_state(home)
    with closing(sqlite3.connect(home / "books.db")) as db:
        db.execute("DELETE FROM entries")
        db.executemany("INSERT INTO entries VALUES (?, ?)", sorted(state["balances"].items()))
        db.commit()


def reduce(state: dict[str, Any], effect: Effect) -> dict[str, Any]:
    """The balances after an entry."""
    balances, entry = state["balances"], effect.payload
    balances[entry["account"]] = balances.get(entry["account"], 0) + entry["amount"]
    return state


def legacy_effects(write: Write) -> tuple[str, Any] | None:
    """An inserted row is an entry."""
    return ("entries", dict(write.row or {})) if write.door == "sqlite" and write.op == "insert" else None


def post(context: TickContext) -> None:
    """The port of the one step."""
    for account, amount in _entries(context.tick):
        context.emit("entries", {"account": account, "amount": amount})


def post_reordered(context: TickContext) -> None:
    """The port with a defect that no balance shows: the credits come first."""
    for account, amount in sorted(_entries(context.tick), reverse=True):
        context.emit("entries", {"account": account, "amount": amount})


def port(run: Any) -> Workflow:
    """The workflow with that step."""
    return Workflow(
        name="bookkeeping", version="1", reduce=reduce, initial_state=lambda: {"balances": {}},
        read_state=read_state, write_state=write_state, legacy=run_tick,
        legacy_steps={"post": "tests.cases.bookkeeping:Books.post"}, legacy_effects=legacy_effects,
        legacy_env=lambda home, time_scale, model_url: {"BOOKS_HOME": str(home)}, steps=[Step(name="post", run=run)],
    )  # fmt: skip


workflow = port(post)
