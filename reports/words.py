"""What every rendering calls things: statuses, kinds, amounts. One word for one thing, in terminal and page alike."""

from __future__ import annotations

from reports import text
from reports.criterion import Criterion, Status
from reports.model import FaultFacts, FindingFacts, Report, RuleFacts
from shadow.signature import NO_STEP

VERDICTS = {"READY": "Ready", "NOT_READY": "Not ready", "KEEP_RUNNING": "Keep running"}
# Status of a criterion -> (word, tone); tones are colours in a terminal and on a page.
STATUSES = {
    Status.PASS: ("pass", "good"),
    Status.FAIL: ("fail", "bad"),
    Status.OPEN: ("open", "wait"),
    Status.WARN: ("warn", "wait"),
    Status.NO_DATA: ("no data", "wait"),
}
KINDS = {
    "match": "match in results, effects and state",
    "tolerated": "equal but for what a rule tolerates",
    "improved": "the control gave up or failed, the candidate equals a reference",
    "unverified": "the control gave up or failed, and no reference was possible",
    "mismatch": "differ",
    "candidate_failed": "the candidate failed",
    "both_failed": "both failed",
    "not_compared": "not compared",
}
SHARES = ("p50", "p95", "p99")


def amount(criterion: Criterion, value: float | None) -> str:
    """A rate, bound or budget of a criterion in its own unit."""
    if value is None:
        return "–"
    return text.points(value) if criterion.unit == "difference" else text.percent(value)


def number(value: float) -> str:
    """A count, which for means of blocks may be a fraction."""
    return text.grouped(value) if value == int(value) else f"{value:.1f}"


def more(ticks: int | None) -> str:
    """A number of further ticks, or that none will do."""
    return "not at this rate" if ticks is None else text.grouped(ticks)


def place(finding: FindingFacts) -> str:
    """The ticks of a finding."""
    if finding.first_tick == finding.last_tick:
        return f"tick {text.grouped(finding.first_tick)}"
    return f"ticks {text.grouped(finding.first_tick)} to {text.grouped(finding.last_tick)}"


def hid(rule: RuleFacts) -> str:
    """What a rule hid, where, and whether that still holds."""
    if not rule.ticks:
        return "hid nothing"
    steps = {"as a whole" if step == NO_STEP else step: count for step, count in rule.steps.items()}
    where = ", ".join(f"{step} {text.grouped(count)}" for step, count in steps.items())
    again = ", which counts again because the rule has expired" if rule.expired else ""
    return f"hid differences on {text.times(rule.ticks, 'tick')}{f' ({where})' if where else ''}{again}"


def fault(found: FaultFacts) -> str:
    """The kind of a fault, for people."""
    return found.kind.replace("_", " ")


def took(seconds: float | None) -> str:
    """The median time of a recovery; a dash where there was none, or nothing to compare with."""
    return "–" if seconds is None else text.duration(1000 * seconds)


def bursts(report: Report) -> str:
    """How what counts against the candidate is spread over the run; empty if nothing does."""
    found, where = report.dependence, report.bursts
    if not found.episodes:
        return ""
    parts = [
        f"What counts against the new system came in {text.times(found.episodes, 'episode')}, at most "
        f"{text.times(found.longest_streak, 'tick')} in a row."
    ]
    if where.largest and where.largest[0][2] > 1:
        first, last, count = where.largest[0]
        parts.append(
            f"The largest: {text.times(count, 'tick')} between {text.grouped(first)} and {text.grouped(last)}."
        )
    without = [text.percent(each.bound) for each in report.criteria if each.name == "mismatch"]
    # A bound that is the same without bursts is none of their doing.
    if not found.warning and text.percent(found.burst_bound) not in without:
        parts.append(
            f"If mismatches came in bursts of {text.times(found.burst, 'tick')}, the bound would be about "
            f"{text.percent(found.burst_bound)}."
        )
    if where.worst_hours:
        begins, bad, count = where.worst_hours[0]
        parts.append(
            f"The worst hour began {begins:%Y-%m-%d %H:%M} UTC: {text.grouped(bad)} of {text.grouped(count)}."
        )
    return " ".join(parts)


def grown(report: Report) -> dict[str, str]:
    """By share (p50 and so on): how much the quantile of durations can have grown by, where a bound is known."""
    return {
        f"p{100 * found.p:g}": "–" if found.ratio is None else text.fold(found.ratio) for found in report.quantiles
    }


def against(report: Report) -> int:
    """Ticks on which the two differ or the candidate failed."""
    return report.kinds.get("mismatch", 0) + report.kinds.get("candidate_failed", 0)
