"""All SQL of the noise floor: table `shadow_noise`, one row for each step of a tick that the old system ran twice."""

from __future__ import annotations

import json
from collections.abc import Iterable

from sqlalchemy import Engine, func, select
from sqlalchemy.dialects.postgresql import insert

from shadow.models import ShadowNoise
from shadow.noise_floor import NoiseRow


def save_noise(engine: Engine, run: str, tick: int, rows: Iterable[NoiseRow]) -> None:
    """Keep what a tick showed; what is there already stays as it was."""
    with engine.begin() as connection:
        for row in rows:
            values = {
                "run": run, "tick": tick, "step": row.step, "old_differs": row.old_differs,
                "new_differs": row.new_differs, "places": json.dumps(row.places),
            }  # fmt: skip
            connection.execute(insert(ShadowNoise).values(**values).on_conflict_do_nothing())


def noise_of(engine: Engine, run: str) -> list[NoiseRow]:
    """All rows of a run, in the order of their ticks."""
    query = select(ShadowNoise).where(ShadowNoise.run == run).order_by(ShadowNoise.tick, ShadowNoise.step)
    with engine.connect() as connection:
        return [
            NoiseRow(
                step=row.step, old_differs=row.old_differs, new_differs=row.new_differs,
                places=tuple((area, path) for area, path in json.loads(row.places)),
            )
            for row in connection.execute(query)
        ]  # fmt: skip


def noise_counts(engine: Engine, run: str) -> dict[str, tuple[int, int, int, int]]:
    """Step -> ticks that ran three times; of these: the new system alone differs, the old one alone differs from
    itself, the old one differs from itself at all."""
    old, new = ShadowNoise.old_differs, ShadowNoise.new_differs
    query = (
        select(
            ShadowNoise.step, func.count(), func.count().filter(new & ~old), func.count().filter(old & ~new),
            func.count().filter(old),
        )
        .where(ShadowNoise.run == run)
        .group_by(ShadowNoise.step)
        .order_by(ShadowNoise.step)
    )  # fmt: skip
    with engine.connect() as connection:
        return {step: (n, plus, minus, differs) for step, n, plus, minus, differs in connection.execute(query)}
