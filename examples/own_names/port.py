"""The same job as a port: `tickover shadow --workload port:newsletter`, from this directory."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from reports.layout import heading
from services.greeting import greeting
from shadow import OWNER
from tickover import Effect, Step, TickContext, Workflow


def collect(context: TickContext) -> dict[str, Any]:
    """Who reads."""
    names = sorted(context.state["readers"])
    return {"count": len(names), "names": names}


def write(context: TickContext) -> str:
    """What they read."""
    return f"{heading(context.tick)} {greeting(context.results['collect']['names'])}"


def send(context: TickContext) -> None:
    """One letter to each."""
    for name in context.results["collect"]["names"]:
        letter = {"id": str(context.new_id()), "name": name, "text": context.results["write"]}
        context.emit("sent", {**letter, "at": context.now.astimezone().replace(tzinfo=None).isoformat()})


def read_state(home: Path) -> dict[str, Any]:
    """Her store as a document: the readers, and how many letters went out."""
    with closing(sqlite3.connect(home / "newsletter.db")) as db:
        readers = [row[0] for row in db.execute("SELECT name FROM readers ORDER BY name")]
        return {"readers": readers, "sent": db.execute("SELECT count(*) FROM sent").fetchone()[0]}


def write_state(home: Path, state: dict[str, Any]) -> None:
    """The document as her store."""
    home.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(home / "newsletter.db")) as db:
        db.executescript(
            "CREATE TABLE IF NOT EXISTS readers (name TEXT PRIMARY KEY);"
            "CREATE TABLE IF NOT EXISTS sent (id TEXT, name TEXT, text TEXT, at TEXT);"
            "DELETE FROM readers; DELETE FROM sent;"
        )
        db.executemany("INSERT INTO readers VALUES (?)", [(name,) for name in state["readers"]])
        db.executemany("INSERT INTO sent VALUES (?, '', '', '')", [(str(number),) for number in range(state["sent"])])
        db.commit()


def reduce(state: dict[str, Any], effect: Effect) -> dict[str, Any]:
    """One letter more."""
    return {**state, "sent": state["sent"] + 1}


assert OWNER == "hers"
newsletter = Workflow(
    name="newsletter",
    version="1",
    initial_state={"readers": ["Ada", "Grace"], "sent": 0},
    reduce=reduce,
    read_state=read_state,
    write_state=write_state,
    legacy="legacy.newsletter:run_tick",
    legacy_steps={
        "collect": "legacy.newsletter:Newsletter.collect",
        "write": "legacy.newsletter:Newsletter.write",
        "send": "legacy.newsletter:Newsletter.send",
    },
    legacy_env=lambda home, time_scale, model_url: {"NEWSLETTER_HOME": str(home)},
    steps=[
        Step(name="collect", run=collect),
        Step(name="write", run=write, needs=("collect",)),
        Step(name="send", run=send, needs=("collect", "write")),
    ],
)
