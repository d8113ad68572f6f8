"""What a run beside a loop reads of the loop's own ticks, which are the truth about what was scheduled."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import Engine, text

_UNCLAIMED = text("""
SELECT t.tick, t.claimed_at FROM ticks t
LEFT JOIN shadow_ticks s ON s.run = :name AND s.tick = t.tick
WHERE t.run = :loop AND t.beside = :name AND t.tick < :before AND s.tick IS NULL ORDER BY t.tick
""")
_PENDING = text("""
SELECT s.tick FROM shadow_ticks s
LEFT JOIN shadow_comparisons c ON c.run = s.run AND c.tick = s.tick
LEFT JOIN ticks t ON t.run = :loop AND t.tick = s.tick AND t.beside = :name
WHERE s.run = :name AND s.tick < :before AND c.tick IS NULL AND (t.tick IS NULL OR t.adopted_at IS NOT NULL)
ORDER BY s.tick
""")
_BELONGS = text("SELECT adopted_at IS NOT NULL FROM ticks WHERE run = :loop AND tick = :tick AND beside = :name")
_STARTED = text("SELECT started_at FROM workflows WHERE execution_id = :execution")


def unclaimed(engine: Engine, loop: str, name: str, before: int) -> list[tuple[int, dt.datetime]]:
    """Ticks of the loop that began beside the run, which does not know them: whoever served was killed in between."""
    with engine.connect() as connection:
        rows = connection.execute(_UNCLAIMED, {"loop": loop, "name": name, "before": before})
        return [(int(tick), claimed_at) for tick, claimed_at in rows]


def pending(engine: Engine, loop: str, name: str, before: int) -> list[int]:
    """Ticks of the run that have no comparison, and that the loop has done with."""
    with engine.connect() as connection:
        return list(connection.execute(_PENDING, {"loop": loop, "name": name, "before": before}).scalars())


def counts(engine: Engine, loop: str, name: str, tick: int) -> bool:
    """Whether the loop has adopted a tick as one that began beside this run."""
    with engine.connect() as connection:
        return bool(connection.execute(_BELONGS, {"loop": loop, "name": name, "tick": tick}).scalar())


def instant_of(engine: Engine, execution_id: str) -> dt.datetime | None:
    """The instant from which an execution derives what it draws; None if there is no such execution."""
    with engine.connect() as connection:
        found: dt.datetime | None = connection.execute(_STARTED, {"execution": execution_id}).scalar()
    return found
