"""An old system whose tick takes a few milliseconds, in two steps, and its port; loaded by name."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from tickover import Effect, Step, TickContext, Workflow


class Meter:
    """The old system: each tick it notes how much was used, then the total in a file."""

    def __init__(self) -> None:
        self.home = Path(os.environ["METER_HOME"])

    def measure(self, tick: int) -> dict[str, int]:
        """Writes a row."""
        with closing(sqlite3.connect(self.home / "meter.db")) as db:
            db.execute("INSERT INTO readings (used) VALUES (?)", (used(tick),))
            db.commit()
        return {"used": used(tick)}

    def bill(self) -> None:
        """Writes a file."""
        with closing(sqlite3.connect(self.home / "meter.db")) as db:
            total = db.execute("SELECT sum(used) FROM readings").fetchone()[0]
        (self.home / "bill.txt").write_text(f"{total} kWh")

    def run(self, tick: int) -> None:
        self.measure(tick)
        self.bill()


def run_tick(tick: int) -> None:
    """What runs once a tick."""
    Meter().run(tick)


def used(tick: int) -> int:
    """Kilowatt hours in a tick."""
    return 1 + tick * 7 % 5


def read_state(home: Path) -> dict[str, Any]:
    """The total."""
    home.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(home / "meter.db")) as db:
        db.execute("CREATE TABLE IF NOT EXISTS readings (used INTEGER)")
        return {"total": db.execute("SELECT coalesce(sum(used), 0) FROM readings").fetchone()[0]}


def write_state(home: Path, state: dict[str, Any]) -> None:
    """One reading stands for all."""
    read_state(home)
    with closing(sqlite3.connect(home / "meter.db")) as db:
        db.execute("DELETE FROM readings")
        db.execute("INSERT INTO readings VALUES (?)", (state["total"],))
        db.commit()


def reduce(state: dict[str, Any], effect: Effect) -> dict[str, Any]:
    """The total after a reading."""
    if effect.kind == "readings":
        state["total"] += effect.payload["used"]
    return state


def measure(context: TickContext) -> dict[str, int]:
    """The port of the row."""
    context.emit("readings", {"used": used(context.tick)})
    return {"used": used(context.tick)}


def bill(context: TickContext) -> None:
    """The port of the file."""
    total = context.state["total"] + context.results["measure"]["used"]
    context.emit("file:bill.txt", {"text": f"{total} kWh"})


workflow = Workflow(
    name="meter", version="1", reduce=reduce, initial_state=lambda: {"total": 0},
    read_state=read_state, write_state=write_state, legacy=run_tick,
    legacy_steps={"measure": "tests.cases.meter:Meter.measure", "bill": "tests.cases.meter:Meter.bill"},
    legacy_env=lambda home, time_scale, model_url: {"METER_HOME": str(home)},
    steps=[Step(name="measure", run=measure), Step(name="bill", run=bill, needs=("measure",))],
)  # fmt: skip
