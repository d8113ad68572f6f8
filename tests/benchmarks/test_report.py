"""What a report costs over a million comparisons of seven steps: time to the terminal, and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from shadow.observation import Graph
from shadow.plan import Mode, RunPlan
from shadow.store import Store
from tickover.execution import System
from tickover.ground.database import engine

ROOT = Path(__file__).resolve().parents[2]
TICKS = 1_000_000
# The published bounds.
MOST_S, MOST_MIB = 3.0, 300.0
STEPS = ("monologue", "goal_selection", "action", "curiosity", "beliefs", "social", "meta")

# The trigger that keeps evidence is left out while the rows go in, and its rows are made as the migration makes
# them: a million calls of it take minutes, which a run spreads over two years.
_FILL = """
ALTER TABLE shadow_comparisons DISABLE TRIGGER keep_tick_evidence;
INSERT INTO shadow_ticks (run, tick, token, due_at, first, stratum)
SELECT %(run)s, i, 't', now(), 'legacy', CASE i %% 3 WHEN 0 THEN 'meta' ELSE 'plain' END
FROM generate_series(0, %(ticks)s - 1) AS i;
INSERT INTO shadow_comparisons (run, tick, kind, reason, stratum, control_outcome, candidate_outcome, control_ms,
    candidate_ms, control_gave_up, steps, document, behaviour_key, judgement_key, created_at)
SELECT %(run)s, i, CASE WHEN bad THEN 'mismatch' WHEN i %% 37 = 5 THEN 'improved' ELSE 'match' END, 'as made',
    CASE i %% 3 WHEN 0 THEN 'meta' ELSE 'plain' END, 'done', 'done', 5000 + random() * 20000,
    4000 + random() * 15000, i %% 37 = 5,
    CASE WHEN bad THEN replace(steps, '"beliefs":["equal"', '"beliefs":["differs"') ELSE steps END,
    document, 'b', 'j', timestamptz '2026-01-01' + i * interval '1 minute'
FROM (SELECT i, i %% %(every)s = 0 AS bad, %(steps)s AS steps, %(document)s AS document
    FROM generate_series(0, %(ticks)s - 1) AS i) AS made;
INSERT INTO shadow_attributions (run, tick, step, signature, kind, atoms)
SELECT run, tick, 'beliefs', 'sig' || tick %% 50, 'mismatch', '[["result","x' || tick %% 50 || '","value"]]'
FROM shadow_comparisons WHERE kind = 'mismatch' AND run = %(run)s;
INSERT INTO tick_evidence (run, tick, kind, stratum, control_outcome, candidate_outcome, control_gave_up,
    candidate_gave_up, control_ms, candidate_ms, steps, rules, compared_at)
SELECT run, tick, kind, stratum, control_outcome, candidate_outcome, control_gave_up, candidate_gave_up, control_ms,
    candidate_ms, CASE kind WHEN 'mismatch' THEN 'EDEEEEE' ELSE 'EEEEEEE' END, NULL, created_at
FROM shadow_comparisons WHERE run = %(run)s;
ALTER TABLE shadow_comparisons ENABLE TRIGGER keep_tick_evidence;
"""


# Every twentieth tick ran the old system twice.
_NOISE = """
INSERT INTO shadow_noise (run, tick, step, old_differs, new_differs, places)
SELECT %(run)s, i, step, i %% 4000 = 0, i %% 3000 = 0, '[]'
FROM generate_series(0, %(ticks)s - 1, 20) AS i, unnest(%(names)s) AS step;
"""
# A rule that hid something on every fifth of the ticks that match.
_RULES = """
UPDATE tick_evidence SET kind = 'tolerated', rules = ARRAY['known'],
    hidden = '{"kind":"mismatch","steps":{"social":{"rules":["known"]}}}'
WHERE run = %(run)s AND tick %% 5 = 1 AND kind = 'match';
"""


def fill(store: Store, run: str, *, bad_every: int, ticks: int = TICKS, key: str | None = None) -> None:
    """A run of so many comparisons, of which every `bad_every`-th is a mismatch, with documents of usual size, noise
    and rules. key: of the version, None for one of its own."""
    plan = RunPlan(
        run=run, workload="tests:none", ticks=ticks, every_s=60, time_scale=1.0, seed=1, mode=Mode.RECORD,
        candidate=System.ASYNC,
    )  # fmt: skip
    graph = Graph(order=STEPS, needs=dict.fromkeys(STEPS, ()))
    store.create_run(plan, graph, {"behaviour": key or f"b-{run}", "judgement": "j"}, "benchmark")
    steps = json.dumps({step: ["equal", 1000.25, 900.5] for step in sorted(STEPS)}, separators=(",", ":"))
    document = json.dumps({"kind": "match", "reason": "equal", "steps": dict.fromkeys(STEPS, "equal")})
    values = {
        "names": list(STEPS),
        "run": run,
        "ticks": ticks,
        "every": bad_every,
        "steps": steps,
        "document": document,
    }
    raw = store.engine.raw_connection()
    try:
        with raw.cursor() as cursor:
            cursor.execute("SET statement_timeout = 0; SET synchronous_commit = off")
            cursor.execute(_FILL + _NOISE + _RULES, values)
            # As autovacuum does within a minute where rows come in one by one.
            cursor.execute(
                "ANALYZE shadow_ticks, shadow_comparisons, shadow_attributions, shadow_noise, tick_evidence"
            )
        raw.commit()
    finally:
        raw.close()
    store.set_status(run, "done")


@pytest.mark.benchmark(group="report")
@pytest.mark.parametrize(("name", "bad_every"), [("some mismatches", 7001), ("a million mismatches", 1)])
@pytest.mark.timeout(900)
def test_a_million_comparisons(benchmark: Any, database: str, name: str, bad_every: int) -> None:
    """`report` over a million comparisons: at most 3 s to the terminal and 300 MiB, also where all of them differ."""
    store = Store(engine(database))
    fill(store, "before", bad_every=7001, ticks=TICKS // 10, key="version")
    fill(store, "million", bad_every=bad_every, key="version")
    took: list[float] = []
    peak: list[float] = []

    def report() -> None:
        begun = time.perf_counter()
        child = subprocess.Popen(
            [sys.executable, str(ROOT / "cli.py"), "report", "million"], stdout=subprocess.PIPE, text=True,
            env={**os.environ, "DATABASE_URL": database, "CELERY_BROKER_URL": "memory://"},
        )  # fmt: skip
        assert child.stdout is not None
        with child.stdout:
            shown = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        took.append(time.perf_counter() - begun)
        peak.append(usage.ru_maxrss / 1024)
        assert child.returncode in (1, 4)
        assert "1 000 000 of 1 000 000 ticks" in shown.replace("\N{NARROW NO-BREAK SPACE}", " ")

    benchmark.pedantic(report, rounds=4, warmup_rounds=1)
    benchmark.extra_info.update(median_s=sorted(took)[len(took) // 2], peak_mib=max(peak))
    print(f"\n{name}: {sorted(took)[len(took) // 2]:.2f} s, {max(peak):.0f} MiB")
    assert sorted(took)[len(took) // 2] <= MOST_S
    assert max(peak) <= MOST_MIB
