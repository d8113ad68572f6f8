"""The report as one HTML file that opens offline: no script, no font, no picture from elsewhere."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from reports import plots, text, words
from reports.criterion import Criterion, Status
from reports.details import Details, Timeline
from reports.gates import folded
from reports.model import FindingFacts, Report

# More findings than these make the page long and the cause no clearer; the command lists them all.
MOST_FINDINGS, MOST_EXAMPLES = 12, 3
_TONES = {"good": "pass", "bad": "fail", "wait": "open"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Plot:
    """A plot on the page; immutable. svg and narrow (for small screens) are markup of ours."""

    svg: Markup
    caption: str = ""
    narrow: Markup | None = None
    title: str = ""
    tone: str = ""
    word: str = ""


def render(report: Report, details: Details) -> str:
    """The page. details: the curves that the page alone shows."""
    environment = Environment(
        loader=PackageLoader("reports", "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["prose"] = _prose
    css = resources.files("reports").joinpath("templates", "page.css").read_text(encoding="utf-8")
    needs_more = report.verdict.status == "KEEP_RUNNING"
    order = {"bad": 0, "wait": 1, "good": 2}
    return environment.get_template("page.html").render(
        css=Markup(css),
        report=report,
        run=report.run,
        verdict=report.verdict,
        word=words.VERDICTS[report.verdict.status],
        tone=report.verdict.status.lower(),
        reasons=[(reason, _tone_of(reason, report)) for reason in report.verdict.reasons],
        against=words.against(report),
        passed=sum(c.critical and c.status is Status.PASS for c in report.criteria),
        critical=sum(c.critical for c in report.criteria),
        open=[c for c in report.criteria if c.critical and c.status is not Status.PASS] if needs_more else [],
        findings=[_finding(each) for each in report.findings[:MOST_FINDINGS]],
        criteria=sorted(report.criteria, key=lambda c: (not c.critical, order[words.STATUSES[c.status][1]])),
        mark={status: (word, _TONES[tone]) for status, (word, tone) in words.STATUSES.items()},
        gates=folded(report.gates),
        kinds=words.KINDS,
        shares=words.SHARES,
        grown=words.grown(report),
        bursts=words.bursts(report),
        hid=words.hid,
        fault=words.fault,
        took=words.took,
        speed_plots=_speed_plots(report, details),
        wide_plots=_wide_plots(report, details),
        bound_plots=_bound_plots(report, details),
        amount=words.amount,
        number=words.number,
        more=words.more,
        grouped=text.grouped,
        hours=text.hours,
        duration=text.duration,
        fold=text.fold,
        percent=text.percent,
        odds=text.odds,
        times=text.times,
    )


def _prose(sentence: str) -> Markup:
    """The sentence with numbers and their percent signs kept on one line, and commands as code."""
    tight = re.sub(r"(\d) %", "\\1\N{NO-BREAK SPACE}%", str(escape(sentence)))
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", tight))


def _tone_of(reason: str, report: Report) -> str:
    """Whether a reason is something broken, or something not known yet."""
    broken = any(c.status is Status.FAIL and reason.startswith(f"{c.title}:") for c in report.criteria)
    return "fail" if broken or (report.verdict.latched_at and reason == report.verdict.reasons[0]) else "open"


def _finding(finding: FindingFacts) -> dict[str, Any]:
    return {
        "name": finding.name, "title": finding.title, "count": finding.count, "place": words.place(finding),
        "examples": finding.examples[:MOST_EXAMPLES],
    }  # fmt: skip


def _speed_plots(report: Report, details: Details) -> list[Plot]:
    found: list[Plot] = []
    control, candidate = report.run.control, report.run.candidate
    if details.control_ms and details.candidate_ms:
        caption = f"How many ticks were done within a time. {report.speed.sentence if report.speed else ''}".strip()
        found.append(
            Plot(
                svg=Markup(plots.distribution(details.control_ms, details.candidate_ms, caption)),
                caption=f"How many ticks were done within a time: {control} and {candidate}. Further left is faster.",
            )
        )
    if details.ratio_bins:
        caption = f"How long {candidate} took compared with {control}, tick by tick. Left of 1× it was faster."
        svg = plots.ratio_histogram(details.ratio_bins, details.ratio_limit, caption)
        found.append(Plot(svg=Markup(svg), caption=f"{caption} {_limit_words(details)}".strip()))
    return found


def _wide_plots(report: Report, details: Details) -> list[Plot]:
    found: list[Plot] = []
    if len(details.ratio_over_time) > 1:
        caption = "The same ratio as the run went on: median, and the band that holds the middle eight tenths."
        found.append(_in_two_widths(
            caption, lambda width: plots.ratio_over_time(details.ratio_over_time, details.ratio_limit, caption, width)
        ))  # fmt: skip
    if details.timeline is not None:
        line: Timeline = details.timeline
        caption = (
            f"Tick {text.grouped(line.tick)} in both systems, step by step: {report.run.control} above, "
            f"{report.run.candidate} below. {text.duration(line.control_ms)} against "
            f"{text.duration(line.candidate_ms)}."
        )
        found.append(
            _in_two_widths(caption, lambda width: plots.timeline(line.control, line.candidate, caption, width))
        )
    return found


def _in_two_widths(caption: str, draw: Callable[[float], str]) -> Plot:
    return Plot(svg=Markup(draw(10.6)), narrow=Markup(draw(4.4)), caption=caption)


def _bound_plots(report: Report, details: Details) -> list[Plot]:
    by_name: dict[str, Criterion] = {c.name: c for c in report.criteria}
    found: list[Plot] = []
    for curve in details.bounds:
        criterion = by_name[curve.criterion]
        points: Sequence[tuple[int, float]] = [(n, b) for n, b in curve.points if math.isfinite(b)]
        if len(points) < 2:
            continue
        word, tone = words.STATUSES[criterion.status]
        svg = plots.shrinking_bound(
            criterion.name, points, criterion.budget, criterion.status is Status.PASS, criterion.sentence
        )
        found.append(Plot(svg=Markup(svg), title=criterion.title, tone=_TONES[tone], word=word))
    return found


def _limit_words(details: Details) -> str:
    return "" if details.ratio_limit is None else f"Dashed: the limit of the policy, {details.ratio_limit:g}×."
