"""What is still needed, in words."""

from __future__ import annotations

import math

from reports import text
from reports.evidence import Counts, middle_ranks
from reports.verdict import Decision, Needed, Verdict
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
    if needed.ticks_if_clean is None:
        parts.append("At the budgets of this policy no foreseeable number of ticks will do: mend, or relax a budget.")
    elif needed.ticks_if_clean or needed.seconds_if_clean:
        parts.append(
            f"At least {text.times(needed.ticks_if_clean, 'more tick')}, if all of them are clean"
            f"{_time(needed.ticks_if_clean, needed.seconds_if_clean, pace_s)}."
        )
        if needed.ticks_at_rate is None:
            parts.append("At the rate seen so far it cannot be decided: fix what differs, or relax the budget.")
        elif needed.ticks_at_rate != needed.ticks_if_clean:
            parts.append(
                f"At the rate seen so far: {text.times(needed.ticks_at_rate, 'tick')}"
                f"{_time(needed.ticks_at_rate, needed.seconds_at_rate, pace_s)}."
            )
    if needed.trials_if_clean is None:
        parts.append("No foreseeable number of drills will do.")
    elif needed.trials_if_clean:
        faults = text.times(needed.trials_if_clean, "drilled fault")
        parts.append(f"At least {faults} that it recovers from: `tickover drill {record.run}`.")
    more = _more_ticks(needed, pace_s)
    if more and record.status == "done" and record.plan.ticks is not None:
        total = record.plan.ticks + more
        parts.append(f"To go on with this run: `tickover shadow --resume {record.run} --ticks {total}`.")
    if any(gate.name == "run" and not gate.is_met for gate in verdict.gates):
        parts.append(f"The run has to be finished first: `tickover shadow --resume {record.run}`.")
    return " ".join(parts) or "Only the conditions below: no criterion needs more ticks."


def _more_ticks(needed: Needed, pace_s: float) -> int:
    """How many ticks more meet what is needed of ticks and of hours, if all are clean; 0 if no number is known to."""
    if needed.ticks_if_clean is None:
        return 0
    for_hours = math.ceil((needed.seconds_if_clean or 0.0) / pace_s) if pace_s else 0
    return max(needed.ticks_if_clean, for_hours)


def _pace_s(record: RunRecord, counts: Counts) -> float:
    """Seconds from tick to tick: the interval, or what the control takes where it does not keep it."""
    ranks = middle_ranks(counts.n)
    typical_ms = counts.control[ranks[0]] if ranks else 0.0
    return max(record.plan.interval_s, typical_ms / 1000 if math.isfinite(typical_ms) else 0.0)


def _time(ticks: int, seconds: float | None, pace_s: float) -> str:
    took = max(seconds or 0.0, ticks * pace_s)
    return f", {text.hours(took)} at the pace of this run" if took else ""
