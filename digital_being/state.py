"""The being's state document: how effects change it, and how it stands in the old system's own store."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from tickover import Effect, Write

# How much of each list is kept.
BOUNDS = {"goals": 10, "questions": 20, "principles": 10, "episodes": 50, "memories": 20}

_FRIENDS = ["Ada", "Jón", "Mira", "Søren", "Zoë"]


def initial_state() -> dict[str, Any]:
    """A new being, with some mail."""
    return {
        "tick": -1,
        "values": {"honesty": 0.9, "care": 0.8, "growth": 0.7},
        "emotions": {"energy": 0.6, "warmth": 0.5},
        "goals": [],
        "beliefs": [],
        "questions": [],
        "principles": [],
        "episodes": [],
        "memories": [],
        "inbox": [
            {"from": _FRIENDS[number % len(_FRIENDS)], "text": f"Letter {number}: how is the garden?"}
            for number in range(40)
        ],
    }


def reduce(state: dict[str, Any], effect: Effect) -> dict[str, Any]:
    """The state after an effect."""
    kind, payload = effect.kind, effect.payload
    if kind == "state.energy":
        state["emotions"]["energy"] = payload
    elif kind == "memories" or kind.startswith("state."):
        name = kind.removeprefix("state.")
        state[name].append(payload)
        del state[name][: -BOUNDS[name]]
    elif kind == "beliefs":
        state["beliefs"] = sorted([*state["beliefs"], payload], key=lambda belief: str(belief["subject"]))
    elif kind == "beliefs.update":
        state["beliefs"] = [payload if held["subject"] == payload["subject"] else held for held in state["beliefs"]]
    elif kind == "letters":
        del state["inbox"][0]
    elif kind == "notes":
        state["tick"] = int(payload["name"].removeprefix("tick-").removesuffix(".md"))
    return state


def read_state(home: Path) -> dict[str, Any]:
    """The state document of the old system that lives in `home`; that of a new being where nothing is there."""
    path = home / "being.json"
    if not path.exists():
        return initial_state()
    state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    with closing(sqlite3.connect(home / "being.db")) as db:
        memories = db.execute("SELECT kind, text, at FROM memories ORDER BY id DESC LIMIT ?", (BOUNDS["memories"],))
        state["memories"] = [{"kind": kind, "text": text, "at": at} for kind, text, at in reversed(list(memories))]
        beliefs = db.execute("SELECT subject, text, confidence FROM beliefs ORDER BY subject")
        state["beliefs"] = [{"subject": name, "text": text, "confidence": sure} for name, text, sure in beliefs]
    return state


def write_state(home: Path, state: dict[str, Any]) -> None:
    """Make the old system's store hold the state document, whatever was there."""
    home.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(home / "being.db")) as db:
        db.executescript(
            "CREATE TABLE IF NOT EXISTS memories (id INTEGER PRIMARY KEY, kind TEXT, text TEXT, at TEXT);"
            "CREATE TABLE IF NOT EXISTS beliefs (subject TEXT PRIMARY KEY, text TEXT, confidence REAL);"
            "DELETE FROM memories; DELETE FROM beliefs;"
        )
        db.executemany("INSERT INTO memories (kind, text, at) VALUES (:kind, :text, :at)", state["memories"])
        db.executemany(
            "INSERT INTO beliefs (subject, text, confidence) VALUES (:subject, :text, :confidence)", state["beliefs"]
        )
        db.commit()
    rest = {name: value for name, value in state.items() if name not in ("memories", "beliefs")}
    draft = home / "being.json.draft"
    draft.write_text(json.dumps(rest, ensure_ascii=False), encoding="utf-8")
    draft.replace(home / "being.json")


def legacy_effects(write: Write) -> tuple[str, Any] | None:
    """The effect that a write of the old system is; its state file is compared as state."""
    if write.door == "sqlite":
        row = dict(write.row or {})
        row.pop("id", None)
        return (write.target if write.op == "insert" else f"{write.target}.{write.op}", row)
    folder, _, name = write.target.partition("/")
    if folder == "notes":
        return ("notes", {"name": name, "text": write.row["text"]})
    if folder == "outbox":
        return ("letters", json.loads(write.row["text"]))
    return None


def deliver(effect: Effect, key: str, home: Path) -> None:
    """Put an adopted note or letter where the old system did. Doing it again changes nothing."""
    if effect.kind == "notes":
        _write(home / "notes" / effect.payload["name"], effect.payload["text"])
    elif effect.kind == "letters":
        _write(home / "outbox" / f"{effect.payload['id']}.json", json.dumps(effect.payload, ensure_ascii=False))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
