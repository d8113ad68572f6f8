"""The heavy tick: everything the being thinks and does in one turn, one step after the other."""

import json
import logging
import math
import os
import random
import sqlite3
import threading
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from legacy import model_client

log = logging.getLogger("being")

STEP_TIMEOUT = float(os.environ.get("BEING_STEP_TIMEOUT", "20"))
SYSTEM = "You are the inner voice of a digital being. Be brief and concrete."
MOODS = ["calm", "curious", "restless", "tender", "wary", "playful"]

NEW_BEING: dict[str, Any] = {
    "tick": -1,
    "values": {"honesty": 0.9, "care": 0.8, "growth": 0.7},
    "emotions": {"energy": 0.6, "warmth": 0.5},
    "goals": [],
    "questions": [],
    "principles": [],
    "episodes": [],
    "inbox": [],
}


class HeavyTick:
    def __init__(self, home: Path) -> None:
        self.home = home
        (home / "notes").mkdir(parents=True, exist_ok=True)
        (home / "outbox").mkdir(exist_ok=True)
        self.db = sqlite3.connect(home / "being.db", check_same_thread=False)
        self.db.execute("CREATE TABLE IF NOT EXISTS memories (id INTEGER PRIMARY KEY, kind TEXT, text TEXT, at TEXT)")
        self.db.execute("CREATE TABLE IF NOT EXISTS beliefs (subject TEXT PRIMARY KEY, text TEXT, confidence REAL)")
        self.db.commit()
        self.being: dict[str, Any] = {}

    def run_tick(self, n: int) -> dict[str, Any]:
        self.load()
        self.being["tick"] = n
        monologue = self.limited(self._monologue) or {"text": "", "mood": "calm", "energy": 0.5}
        goal = self.limited(self._goal_selection, monologue) or self.default_goal(datetime.now())
        self.keep_goal(goal)
        action = self.limited(self._action, goal) or {"note": "", "reflection": ""}
        if n % 2 == 0:
            self.optional(self._curiosity, action)
        if n % 3 == 0:
            self.optional(self._beliefs, action)
        self.optional(self._social, goal)
        if n % 5 == 0:
            self.optional(self._meta)
        self.save()
        return {"tick": n, "goal": goal["goal"], "reflection": action["reflection"]}

    # The steps

    def _monologue(self) -> dict[str, Any]:
        being = self.being
        now = datetime.now()
        mood = random.choice(MOODS)
        energy = round(min(1.0, max(0.0, being["emotions"]["energy"] + random.uniform(-0.1, 0.1))), 3)
        last = being["episodes"][-1]["reflection"] if being["episodes"] else "Nothing has happened yet."
        text = model_client.chat(
            SYSTEM,
            f"You feel {mood}, energy {energy}. {len(being['inbox'])} messages wait. Last: {last} What do you think?",
        )
        being["emotions"]["energy"] = energy
        self.remember("monologue", text, now)
        return {"text": text, "mood": mood, "energy": energy}

    def _goal_selection(self, monologue: dict[str, Any]) -> dict[str, Any]:
        being = self.being
        now = datetime.now()
        context = self.similar_memories(monologue["text"])
        ideas = model_client.chat(
            SYSTEM,
            f"You thought: {monologue['text']} You remember: {'; '.join(context)} Name three things you could do.",
        )
        goals = ", ".join(goal["goal"] for goal in being["goals"][-3:])
        answer = model_client.chat(
            SYSTEM,
            f"Ideas: {ideas} Recent goals: {goals or 'none'}. Energy {monologue['energy']}. "
            "Choose one goal. Answer as JSON with goal, priority (1 to 5) and why.",
            json_answer=True,
        )
        try:
            chosen = json.loads(answer)
            goal, priority = chosen["goal"], int(chosen["priority"])
        except (ValueError, KeyError, TypeError):
            log.warning("no goal in %r", answer)
            return self.default_goal(now)
        return {
            "id": str(uuid.uuid4()),
            "goal": goal,
            "priority": max(1, min(5, priority)),
            "why": chosen.get("why", ""),
            "at": now.isoformat(),
        }

    def _action(self, goal: dict[str, Any]) -> dict[str, Any]:
        being = self.being
        now = datetime.now()
        # observe
        recent = self.recent_memories()
        observed = random.sample(recent, min(3, len(recent)))
        # analyze
        seen = "; ".join(memory["text"] for memory in observed)
        analysis = model_client.chat(SYSTEM, f"Your goal: {goal['goal']}. You observe: {seen}. What follows?")
        # write
        note = f"# Tick {being['tick']}\n\n{goal['goal']} (priority {goal['priority']})\n\n{analysis}\n"
        (self.home / "notes" / f"tick-{being['tick']:06d}.md").write_text(note, encoding="utf-8")
        # reflect
        reflection = model_client.chat(
            SYSTEM, f"You worked on: {goal['goal']}. You found: {analysis} What did you learn?"
        )
        self.remember("reflection", reflection, now)
        being["episodes"].append({"tick": being["tick"], "goal": goal["goal"], "reflection": reflection})
        del being["episodes"][:-50]
        return {"note": note, "reflection": reflection}

    def _curiosity(self, action: dict[str, Any]) -> dict[str, Any]:
        being = self.being
        question = model_client.chat(SYSTEM, f"You learned: {action['reflection']} What do you wonder about?")
        being["questions"].append(question)
        del being["questions"][:-20]
        return {"question": question}

    def _beliefs(self, action: dict[str, Any]) -> dict[str, Any]:
        answer = model_client.chat(
            SYSTEM,
            f"You learned: {action['reflection']} What do you believe now? "
            "Answer as JSON with subject, text and confidence (0 to 1).",
            json_answer=True,
        )
        try:
            belief = json.loads(answer)
            subject, text = str(belief["subject"]), str(belief["text"])
            confidence = round(float(belief["confidence"]), 3)
        except (ValueError, KeyError, TypeError):
            return {"believed": None}
        known = self.db.execute("SELECT confidence FROM beliefs WHERE subject = ?", (subject,)).fetchone()
        if known:
            confidence = round((known[0] + confidence) / 2, 3)
            self.db.execute(
                "UPDATE beliefs SET text = ?, confidence = ? WHERE subject = ?", (text, confidence, subject)
            )
        else:
            self.db.execute(
                "INSERT INTO beliefs (subject, text, confidence) VALUES (?, ?, ?)", (subject, text, confidence)
            )
        self.db.commit()
        return {"believed": {"subject": subject, "text": text, "confidence": confidence}}

    def _social(self, goal: dict[str, Any]) -> dict[str, Any]:
        being = self.being
        if not being["inbox"]:
            return {"answered": None}
        message = being["inbox"][0]
        text = model_client.chat(
            SYSTEM, f"{message['from']} wrote: {message['text']} Your goal is {goal['goal']}. Answer in one sentence."
        )
        letter = {"id": str(uuid.uuid4()), "to": message["from"], "text": text, "at": datetime.now().isoformat()}
        path = self.home / "outbox" / f"{letter['id']}.json"
        path.write_text(json.dumps(letter, ensure_ascii=False), encoding="utf-8")
        being["inbox"].pop(0)
        return {"answered": message["from"]}

    def _meta(self) -> dict[str, Any]:
        being = self.being
        lately = " ".join(episode["reflection"] for episode in being["episodes"][-3:])
        principle = model_client.chat(SYSTEM, f"Lately: {lately} Name one principle to live by.")
        being["principles"].append({"text": principle, "weight": round(random.uniform(0.5, 1.0), 3)})
        del being["principles"][:-10]
        return {"principle": principle}

    # What the steps need

    def limited(self, step: Callable[..., Any], *args: Any) -> Any:
        """Run a step in a thread; whoever takes too long is left behind."""
        box: dict[str, Any] = {}

        def work() -> None:
            try:
                box["result"] = step(*args)
            except Exception as error:  # noqa: BLE001
                box["error"] = error

        thread = threading.Thread(target=work, name=step.__name__, daemon=True)
        thread.start()
        thread.join(STEP_TIMEOUT)
        if thread.is_alive():
            log.warning("%s overran", step.__name__)
            return None
        if "error" in box:
            raise box["error"]
        return box["result"]

    def optional(self, step: Callable[..., Any], *args: Any) -> Any:
        try:
            return self.limited(step, *args)
        except Exception:
            log.exception("%s failed", step.__name__)
            return None

    def default_goal(self, now: datetime) -> dict[str, Any]:
        return {
            "id": str(uuid.uuid4()),
            "goal": "rest and watch",
            "priority": 1,
            "why": "no goal was found",
            "at": now.isoformat(),
        }

    def keep_goal(self, goal: dict[str, Any]) -> None:
        self.being["goals"].append(goal)
        del self.being["goals"][:-10]

    def remember(self, kind: str, text: str, at: datetime) -> None:
        self.db.execute("INSERT INTO memories (kind, text, at) VALUES (?, ?, ?)", (kind, text, at.isoformat()))
        self.db.commit()

    def recent_memories(self) -> list[dict[str, Any]]:
        rows = self.db.execute("SELECT kind, text, at FROM memories ORDER BY id DESC LIMIT 20").fetchall()
        return [{"kind": kind, "text": text, "at": at} for kind, text, at in reversed(rows)]

    def similar_memories(self, text: str) -> list[str]:
        memories = [memory["text"] for memory in self.recent_memories()]
        if not memories:
            return []
        query, *vectors = model_client.embed([text, *memories])
        scored = sorted(zip(vectors, memories, strict=True), key=lambda pair: (-cosine(query, pair[0]), pair[1]))
        return [memory for _, memory in scored[:3]]

    def load(self) -> None:
        path = self.home / "being.json"
        text = path.read_text(encoding="utf-8") if path.exists() else json.dumps(NEW_BEING)
        self.being = json.loads(text)

    def save(self) -> None:
        path = self.home / "being.json"
        path.with_suffix(".tmp").write_text(json.dumps(self.being, ensure_ascii=False), encoding="utf-8")
        path.with_suffix(".tmp").replace(path)


def cosine(left: list[float], right: list[float]) -> float:
    length = math.sqrt(sum(x * x for x in left)) * math.sqrt(sum(x * x for x in right))
    return sum(x * y for x, y in zip(left, right, strict=True)) / length if length else 0.0


being: HeavyTick | None = None


def run_tick(n: int) -> dict[str, Any]:
    """One turn of the being that lives in BEING_HOME."""
    global being
    if being is None:
        being = HeavyTick(Path(os.environ.get("BEING_HOME", ".")))
    return being.run_tick(n)
