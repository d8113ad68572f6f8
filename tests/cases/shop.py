"""A small old system whose last steps could run side by side, but read what their siblings have just written: a row,
a file, a field of live state. Its port, and ports that forgot one of the three; loaded by name."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from tickover import Effect, Step, TickContext, Workflow, Write

START = {"stock": 1000, "sign": "closed", "mood": 0}


class Shop:
    """The old system: one step after the other, each on what the ones before have left."""

    def __init__(self) -> None:
        self.home = Path(os.environ["SHOP_HOME"])
        self.live = json.loads((self.home / "shop.json").read_text())

    def sell(self, tick: int) -> dict[str, int]:
        """Writes a row."""
        with closing(sqlite3.connect(self.home / "shop.db")) as db:
            db.execute("UPDATE shelf SET stock = stock - ?", (sold(tick),))
            db.commit()
        return {"sold": sold(tick)}

    def price(self) -> dict[str, int]:
        """Reads the row."""
        with closing(sqlite3.connect(self.home / "shop.db")) as db:
            return {"price": price_of(db.execute("SELECT stock FROM shelf").fetchone()[0])}

    def paint(self, tick: int) -> None:
        """Writes a file."""
        (self.home / "sign.txt").write_text(sign(tick))

    def shout(self) -> dict[str, str]:
        """Reads the file."""
        return {"shouted": (self.home / "sign.txt").read_text().upper()}

    def cheer(self, tick: int) -> None:
        """Changes live state."""
        self.live["mood"] += 1 + tick % 2

    def sing(self) -> dict[str, str]:
        """Reads live state."""
        return {"song": song(self.live["mood"])}

    def run(self, tick: int) -> None:
        self.sell(tick)
        self.price()
        self.paint(tick)
        self.shout()
        self.cheer(tick)
        self.sing()
        (self.home / "shop.json").write_text(json.dumps(self.live))


def run_tick(tick: int) -> None:
    """What runs once a tick."""
    Shop().run(tick)


def sold(tick: int) -> int:
    """Pieces sold in a tick."""
    return 3 + tick % 4


def price_of(stock: int) -> int:
    """The fewer there are, the dearer."""
    return 2000 - stock


def sign(tick: int) -> str:
    """What the sign says."""
    return f"day {tick}"


def song(mood: int) -> str:
    """A line as long as the mood is good."""
    return "la " * mood


def read_state(home: Path) -> dict[str, Any]:
    """Row, file and live state as one document."""
    live = home / "shop.json"
    if not live.exists():
        write_state(home, START)
    with closing(sqlite3.connect(home / "shop.db")) as db:
        stock = db.execute("SELECT stock FROM shelf").fetchone()[0]
    return {"stock": stock, "sign": (home / "sign.txt").read_text(), **json.loads(live.read_text())}


def write_state(home: Path, state: dict[str, Any]) -> None:
    """The document as the old system keeps it."""
    home.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(home / "shop.db")) as db:
        db.execute("DROP TABLE IF EXISTS shelf")
        db.execute("CREATE TABLE shelf (stock INTEGER)")
        db.execute("INSERT INTO shelf VALUES (?)", (state["stock"],))
        db.commit()
    (home / "sign.txt").write_text(state["sign"])
    (home / "shop.json").write_text(json.dumps({"mood": state["mood"]}))


def reduce(state: dict[str, Any], effect: Effect) -> dict[str, Any]:
    """Each kind of effect sets the field of its name."""
    return {**state, effect.kind: effect.payload}


def legacy_effects(write: Write) -> tuple[str, Any] | None:
    """What the old system writes is compared as state."""
    del write
    return None


def sell(context: TickContext) -> dict[str, int]:
    """The port of a step that writes a row."""
    context.emit("stock", context.state["stock"] - sold(context.tick))
    return {"sold": sold(context.tick)}


def price(context: TickContext) -> dict[str, int]:
    """The port of a step that reads the row: the snapshot's, less what its sibling has sold."""
    return {"price": price_of(context.state["stock"] - context.results["sell"]["sold"])}


def paint(context: TickContext) -> None:
    """The port of a step that writes a file."""
    context.emit("sign", sign(context.tick))


def shout(context: TickContext) -> dict[str, str]:
    """The port of a step that reads the file."""
    return {"shouted": sign(context.tick).upper()}


def cheer(context: TickContext) -> None:
    """The port of a step that changes live state."""
    context.emit("mood", context.state["mood"] + 1 + context.tick % 2)


def sing(context: TickContext) -> dict[str, str]:
    """The port of a step that reads live state."""
    return {"song": song(context.state["mood"] + 1 + context.tick % 2)}


# Ports of a reader that starts from the snapshot and does not see what its sibling writes: step -> function.
UNSEEN: dict[str, Callable[[TickContext], Any]] = {
    "price": lambda context: {"price": price_of(context.state["stock"])},
    "shout": lambda context: {"shouted": context.state["sign"].upper()},
    "sing": lambda context: {"song": song(context.state["mood"])},
}


def port(**instead: Callable[[TickContext], Any]) -> Workflow:
    """The workflow, with other functions for the steps named. A reader that forgets its sibling does not need it."""
    needs = {"price": ("sell",)}
    return Workflow(
        name="shop", version="1", reduce=reduce, initial_state=lambda: dict(START), read_state=read_state,
        write_state=write_state, legacy=run_tick, legacy_effects=legacy_effects,
        state_kinds=("stock", "sign", "mood"),
        legacy_steps={name: f"tests.cases.shop:Shop.{name}" for name in STEPS},
        legacy_env=lambda home, time_scale, model_url: {"SHOP_HOME": str(home)},
        steps=[
            Step(name=name, run=instead.get(name, run), needs=() if name in instead else needs.get(name, ()))
            for name, run in STEPS.items()
        ],
    )  # fmt: skip


STEPS: dict[str, Callable[[TickContext], Any]] = {
    "sell": sell, "price": price, "paint": paint, "shout": shout, "cheer": cheer, "sing": sing,
}  # fmt: skip
workflow = port()
