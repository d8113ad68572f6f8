"""A job as its owner might have written it: it knows nothing of what watches it."""

from __future__ import annotations

import json
import logging
import os
import random
import sqlite3
import threading
import time
import urllib.request
import uuid
from datetime import date, datetime
from pathlib import Path

import requests

log = logging.getLogger("old_job")


def service() -> str:
    return os.environ["SERVICE_URL"]


class Job:
    """The job, with live state."""

    limit_s = 5.0

    def __init__(self) -> None:
        self.total = 0

    def gather(self, tick: int) -> dict:
        log.warning("gathering for %s", tick)
        answer = requests.post(service() + "/ask", json={"tick": tick, "word": "hello"}, timeout=5).json()
        with urllib.request.urlopen(service() + f"/plain?tick={tick}", timeout=5) as response:
            plain = response.read().decode()
        return {"answer": answer["said"], "plain": plain, "at": datetime.now().isoformat(), "id": str(uuid.uuid4())}

    def decide(self, tick: int) -> dict:
        sample = random.sample(range(1000), 3)
        self.total += sum(sample)
        return {"sample": sample, "gauss": random.gauss(0, 1), "today": date.today().isoformat(), "t": time.time()}

    def store(self, tick: int, gathered: dict, decided: dict) -> int:
        connection = sqlite3.connect("job.db")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS memories (id INTEGER PRIMARY KEY, tick INT, text TEXT, data BLOB)"
        )
        with connection:
            connection.execute(
                "INSERT INTO memories (tick, text, data) VALUES (?, ?, ?)", (tick, gathered["answer"], b"\xff\x00")
            )
        try:
            with connection:
                connection.execute("INSERT INTO memories (tick, text) VALUES (?, 'never')", (tick,))
                raise LookupError("changed my mind")
        except LookupError:
            pass
        with connection:
            connection.execute("UPDATE memories SET text = text || '!' WHERE tick = ?", (tick,))
        count = connection.execute("SELECT count(*) FROM memories").fetchone()[0]
        connection.close()
        Path("notes").mkdir(exist_ok=True)
        Path(f"notes/{tick}.txt").write_text(f"note {tick}: {gathered['plain']}\n")
        with open("outbox.jsonl", "a") as outbox:
            outbox.write(json.dumps({"tick": tick}) + "\n")
        return count

    def slow(self, tick: int) -> str:
        time.sleep(float(os.environ.get("SLOW_S", "0")))
        with open("late.txt", "a") as file:
            file.write(f"late {tick}\n")
        return "slow"

    def save(self) -> None:
        with open("job.json.tmp", "w") as file:
            json.dump({"total": self.total}, file)
        os.replace("job.json.tmp", "job.json")

    def run(self, tick: int) -> dict:
        gathered = self.gather(tick)
        decided = self.decide(tick)
        count = self.store(tick, gathered, decided)
        thread = threading.Thread(target=self.slow, args=(tick,), daemon=True)
        thread.start()
        thread.join(float(os.environ.get("SLOW_LIMIT_S", "5")))
        self.save()
        return {"count": count, "when": datetime.now()}


_job: Job | None = None


def run_tick(tick: int) -> dict:
    global _job
    if _job is None:
        _job = Job()
    return _job.run(tick)
