"""What is still needed, in words."""

from __future__ import annotations

import math

from reports import text
from reports.evidence import Counts, middle_ranks
from reports.verdict import Decision, Verdict
from shadow.store import RunRecord


def needed_sentence(verdict: Verdict, record: RunRecord, counts: Counts, *, latched: bool) -> str:
    """What it still takes until READY, and the command that goes on. latched: the version was NOT_READY before."""
    needed, pace_s = verdict.needed, _pace_s(record, counts)
    if verdict.decision is Decision.NOT_READY or latched:
        return (
            "No number of further ticks makes this version ready: mend what differs, or relax the budget for a "
            "stated reason, and start a new run."
        )
    if verdict.decision is Decision.READY:
        return "Nothing: all critical criteria pass and all conditions are met."
    parts: list[str] = []
    clean = _ticks(needed.ticks_if_clean, needed.seconds_if_clean, pace_s)
    at_rate = _ticks(needed.ticks_at_rate, needed.seconds_at_rate, pace_s)
    if clean is None:
        parts.append("At the budgets of this policy no foreseeable number of ticks will do: mend, or relax a budget.")
    elif clean or needed.seconds_if_clean:
        lasts = _time(clean, needed.seconds_if_clean, pace_s)
        parts.append(f"At least {text.times(clean, 'more tick')}, if all of them are clean{lasts}.")
        if at_rate is None:
            parts.append("At the rate seen so far it cannot be decided: fix what differs, or relax the budget.")
        elif at_rate != clean:
            lasts = _time(at_rate, needed.seconds_at_rate, pace_s)
            parts.append(f"At the rate seen so far: {text.times(at_rate, 'tick')}{lasts}.")
    if needed.trials_if_clean is None:
        parts.append("No foreseeable number of drills will do.")
    elif needed.trials_if_clean:
        faults = text.times(needed.trials_if_clean, "drilled fault")
        parts.append(f"At least {faults} that it recovers from: `tickover drill {record.run}`.")
    total = (record.plan.ticks or 0) + (clean or 0)
    if any(gate.name == "interval" and not gate.is_met for gate in verdict.gates):
        parts.append(f"That takes another run, with an interval: `tickover shadow --ticks {total} --every 60s`.")
    elif clean and record.status == "done" and record.plan.ticks is not None:
        parts.append(f"To go on with this run: `{record.plan.goes_on_with} --ticks {total}`.")
    if any(gate.name == "run" and not gate.is_met for gate in verdict.gates):
        parts.append(f"The run has to be finished first: `{record.plan.goes_on_with}`.")
    return " ".join(parts) or "Only the conditions below: no criterion needs more ticks."


def _ticks(ticks: int | None, seconds: float | None, pace_s: float) -> int | None:
    """How many ticks bring these ticks and take these seconds; None if no number will do."""
    return ticks if ticks is None or not (seconds and pace_s) else max(ticks, math.ceil(seconds / pace_s))


def _pace_s(record: RunRecord, counts: Counts) -> float:
    """Seconds from tick to tick: the interval, or what the control takes where it does not keep it."""
    ranks = middle_ranks(counts.n)
    typical_ms = counts.control[ranks[0]] if ranks else 0.0
    return max(record.plan.interval_s, typical_ms / 1000 if math.isfinite(typical_ms) else 0.0)


def _time(ticks: int, seconds: float | None, pace_s: float) -> str:
    took = max(seconds or 0.0, ticks * pace_s)
    return f", {text.hours(took)} at the pace of this run" if took else ""
