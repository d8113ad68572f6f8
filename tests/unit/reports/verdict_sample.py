"""Evidence of a good day, for tests of verdicts: no database, no run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from reports.tally import Evidence, FaultTrials, Pairs, Tally

STEPS = ("monologue", "goal_selection", "action", "curiosity", "beliefs", "social", "meta")
KINDS = ("killed_worker", "hang", "model_outage")


def good(n: int = 1440, **changes: Any) -> Evidence:
    """A day in which nothing went wrong, with twelve drills of each of three kinds."""
    clean = Tally(n=n)
    evidence = Evidence(
        behaviour_key="b", judgement_key="j", status="done", time_scale=1.0, interval_s=60.0, hours=n / 60, started=n,
        compared=n, whole=clean, steps=dict.fromkeys(STEPS, clean), failures=Pairs(n=n), tail=clean, far_tail=clean,
        deadline=clean, slower_blocks={0.0: n // 60}, strata={"day": n},
        faults={kind: FaultTrials(n=12, against_old=Pairs(n=12, old_only=4)) for kind in KINDS},
    )  # fmt: skip
    return replace(evidence, **changes)
