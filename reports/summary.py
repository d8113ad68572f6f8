"""The plain summary of a run: counts, kinds, timings, findings. It gives no verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shadow.compare import Kind
from shadow.signature import Finding, findings
from shadow.store import Store

_ABOUT = {
    Kind.MATCH: "equal in results, effects and state",
    Kind.TOLERATED: "equal but for what a rule hides",
    Kind.IMPROVED: "legacy gave up or failed, the new system did as a reference does",
    Kind.UNVERIFIED: "legacy gave up or failed, and there is no reference",
    Kind.MISMATCH: "they differ",
    Kind.CANDIDATE_FAILED: "the new system failed",
    Kind.BOTH_FAILED: "both failed",
    Kind.NOT_COMPARED: "not compared, with a reason",
}


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a run found; immutable. timings: side -> (p50, p95, p99) in milliseconds."""

    run: str
    status: str
    workload: str
    scale: float
    planned: int
    counts: Mapping[Kind, int]
    timings: Mapping[str, tuple[float, float, float]]
    found: tuple[Finding, ...]
    surface: Mapping[str, Any]

    @property
    def compared(self) -> int:
        """Ticks that have a comparison."""
        return sum(self.counts.values())

    def to_json(self) -> dict[str, Any]:
        """The summary as a JSON document."""
        return {
            "run": self.run, "status": self.status, "workload": self.workload, "time_scale": self.scale,
            "planned": self.planned, "compared": self.compared,
            "counts": {kind.value: count for kind, count in self.counts.items()},
            "timings_ms": {side: dict(zip(("p50", "p95", "p99"), values, strict=True))
                           for side, values in self.timings.items()},
            "findings": [finding.to_json() for finding in self.found],
            "surface": dict(self.surface),
        }  # fmt: skip


def summarise(store: Store, run: str | None) -> Summary:
    """The summary of a run; None: the latest. Raises UnknownRun."""
    record = store.run(run)
    return Summary(
        run=record.run, status=record.status, workload=record.plan.workload, scale=record.plan.time_scale,
        planned=record.plan.ticks, counts=store.counts(record.run), timings=store.timings(record.run),
        found=findings(store.sightings(record.run)), surface=record.surface,
    )  # fmt: skip


def render(summary: Summary) -> str:
    """The summary as text for a terminal, at most 100 columns wide."""
    scaled = "" if summary.scale == 1 else f", scaled to {summary.scale:g} of real time"
    lines = [
        f"Run {summary.run} of {summary.workload}: {summary.status}, {summary.compared} of {summary.planned} ticks "
        f"compared{scaled}",
        "",
    ]
    lines += [f"  {count:6d}  {kind.value:<17} {_ABOUT[kind]}" for kind, count in summary.counts.items() if count]
    if not summary.compared:
        lines.append("  nothing was compared, so nothing is known")
    lines += ["", "Findings"]
    lines += [f"  {finding.sentence}" for finding in summary.found] or ["  none"]
    if summary.timings:
        lines += ["", f"{'Milliseconds a tick':<22}{'p50':>10}{'p95':>10}{'p99':>10}"]
        for side, values in summary.timings.items():
            lines.append(f"  {side:<20}" + "".join(f"{value:>10.0f}" for value in values))
    observed = ", ".join(summary.surface.get("observed", [])) or "nothing"
    unobserved = ", ".join(summary.surface.get("unobserved", [])) or "nothing seen"
    lines += ["", f"Observed through: {observed}", f"Used but not observed: {unobserved}"]
    lines += ["", "This is a summary, not a verdict: it says nothing about whether it is safe to switch."]
    return "\n".join(lines)
