"""A report made of chosen evidence, for tests of renderings: no database, no run."""

from __future__ import annotations

import datetime as dt
from typing import Any

from reports.model import (
    BurstFacts,
    ExampleFacts,
    FindingFacts,
    PolicyFacts,
    Report,
    RunFacts,
    SpeedFacts,
    StratumFacts,
    SurfaceFacts,
    VerdictFacts,
)
from reports.policy import load_policy
from reports.tally import Evidence, Pairs, Tally
from reports.verdict import judge

WHEN = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


def evidence(n: int = 2000, bad: int = 0, **more: Any) -> Evidence:
    """Evidence of `n` ticks, `bad` of them mismatches in step `think`, with a day of real time."""
    values: dict[str, Any] = {
        "behaviour_key": "b", "judgement_key": "j", "status": "done", "time_scale": 1.0, "interval_s": 60.0,
        "hours": 30.0, "started": n, "compared": n, "whole": Tally(n=n, bad=bad),
        "steps": {"fetch": Tally(n=n), "think": Tally(n=n, bad=bad)}, "failures": Pairs(n=n),
        "tail": Tally(n=n), "far_tail": Tally(n=n), "deadline": Tally(n=n), "slower_blocks": {0.1: n // 60},
        "strata": {"plain": n},
    }  # fmt: skip
    return Evidence(**{**values, **more})


def report(seen: Evidence | None = None, **more: Any) -> Report:
    """A report on evidence under the scaled policy; further fields replace its own."""
    policy = load_policy("scaled")
    seen = seen or evidence()
    verdict = judge(seen, policy)
    example = ExampleFacts(
        tick=7, step="think", area="result", path="goal.text", nature="value", control='"old"', candidate='"new"'
    )
    finding = FindingFacts(
        name="ab12cd34", step="think", title="Step think: result goal.text (value)",
        sentence="Step think: result goal.text (value), 3 ticks, ticks 7 to 90", count=3, first_tick=7, last_tick=90,
        kinds=("mismatch",), examples=(example,),
    )  # fmt: skip
    values: dict[str, Any] = {
        "made_at": WHEN, "made_by": "0.1.0",
        "run": RunFacts(
            run="r1", workload="job:job", status=seen.status, mode="record", control="legacy", candidate="async",
            time_scale=seen.time_scale, interval_s=seen.interval_s, planned=2000, scheduled=seen.started,
            compared=seen.compared, missing=0, overran=0, covered_s=seen.hours * 3600, started_at=WHEN,
            finished_at=None, behaviour_key="b" * 64, judgement_key="j" * 64,
        ),
        "policy": PolicyFacts(name=policy.name, source="built in", digest=policy.digest, alpha=0.05, beta=0.05),
        "verdict": VerdictFacts(
            status=verdict.decision.value, headline=verdict.headline, reasons=verdict.reasons, vetoes=verdict.vetoes
        ),
        "needed": verdict.needed, "needed_sentence": "Nothing more.", "criteria": verdict.criteria,
        "gates": verdict.gates, "kinds": {"match": seen.compared - seen.whole.bad, "mismatch": seen.whole.bad},
        "findings": (finding,) if seen.whole.bad else (), "findings_total": int(bool(seen.whole.bad)),
        "speed": SpeedFacts(
            control_ms={"p50": 900.0, "p95": 20_000.0, "p99": float("inf")},
            candidate_ms={"p50": 800.0, "p95": 9_000.0, "p99": 12_000.0},
            ratio={"p50": 0.9, "p95": 1.1, "p99": 1.4}, sentence="Typically async takes 10 % less time.",
        ),
        "faults": (), "strata": (StratumFacts(stratum="plain", n=seen.compared, bad=0, bound=0.0017),),
        "dependence": verdict.dependence, "bursts": BurstFacts(largest=(), worst_hours=()),
        "quantiles": verdict.quantiles, "tolerated": {}, "rules": (),
        "surface": SurfaceFacts(observed=("http",), unobserved=(), not_compared=(), not_applied=()),
    }  # fmt: skip
    return Report(**{**values, **more})
