"""The old job: once a tick it counts readers and sends a newsletter. It knows nothing of Tickover."""

import os
import sqlite3
import uuid
from datetime import datetime

from reports.layout import heading
from services.greeting import greeting


class Newsletter:
    def __init__(self):
        self.db = sqlite3.connect(os.path.join(os.environ.get("NEWSLETTER_HOME", "."), "newsletter.db"))

    def collect(self):
        names = [row[0] for row in self.db.execute("SELECT name FROM readers ORDER BY name")]
        return {"count": len(names), "names": names}

    def write(self, tick, collected):
        return f"{heading(tick)} {greeting(collected['names'])}"

    def send(self, text, collected):
        for name in collected["names"]:
            self.db.execute(
                "INSERT INTO sent (id, name, text, at) VALUES (?, ?, ?, ?)",
                (str(uuid.uuid4()), name, text, datetime.now().isoformat()),
            )
        self.db.commit()

    def run(self, tick):
        collected = self.collect()
        text = self.write(tick, collected)
        self.send(text, collected)
        self.db.close()


def run_tick(tick):
    Newsletter().run(tick)
