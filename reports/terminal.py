"""The report for a terminal: at most 100 columns, colour only where it is wanted."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterable

import click

from reports import text, words
from reports.criterion import Criterion
from reports.model import Report

WIDTH = 100
_COLOURS = {"good": "green", "bad": "red", "wait": "yellow"}
_TONES = {"READY": "good", "NOT_READY": "bad", "KEEP_RUNNING": "wait"}
# Reasons, findings and criteria beyond these say less than the command that lists them all.
_MOST_REASONS, _MOST_FINDINGS = 8, 8


def render(report: Report, *, colour: bool) -> str:
    """The report as lines of text, the verdict first. colour: with escape sequences for a terminal."""
    pen = _Pen(colour)
    lines: list[str] = []
    for part in (
        _head(report, pen),
        _why(report, pen),
        _needed(report, pen),
        _differs(report, pen),
        _speed(report, pen),
        _faults(report, pen),
        _criteria(report, pen),
        _unseen(report, pen),
        _more(report),
    ):
        if part:
            lines += ["", *part] if lines else part
    return "\n".join(lines)


class _Pen:
    """Writes words in colour, or not."""

    def __init__(self, colour: bool) -> None:
        self.colour = colour

    def tone(self, what: str, tone: str, *, bold: bool = False) -> str:
        return click.style(what, fg=_COLOURS.get(tone), bold=bold) if self.colour else what

    def title(self, what: str) -> str:
        return click.style(what, bold=True) if self.colour else what

    def faint(self, what: str) -> str:
        return click.style(what, dim=True) if self.colour else what


def _head(report: Report, pen: _Pen) -> list[str]:
    run, verdict = report.run, report.verdict
    scaled = f" (scaled to {run.time_scale:g} of real time)" if run.is_scaled else ""
    word = words.VERDICTS[verdict.status].upper()
    lines = _wrap(
        f"Run {run.run} of {run.workload}: {run.status}, {text.grouped(run.compared)} of "
        f"{text.times(run.planned, 'tick')} compared, {text.hours(run.covered_s)} observed"
    )
    lines += ["", f"  {pen.tone(word, _TONES[verdict.status], bold=True)}{scaled}, policy {report.policy.name}"]
    return lines + _wrap(verdict.headline, "  ")


def _why(report: Report, pen: _Pen) -> list[str]:
    verdict = report.verdict
    reasons = [*verdict.vetoes, *verdict.reasons]
    lines: list[str] = []
    if reasons:
        lines += [pen.title("Why not")]
        for reason in reasons[:_MOST_REASONS]:
            lines += _wrap(reason, "  - ", "    ")
        if len(reasons) > _MOST_REASONS:
            lines.append(f"  - and {len(reasons) - _MOST_REASONS} more, with --json or --html")
    if verdict.without_rules:
        lines += _wrap(f"Without rules the verdict would be {verdict.without_rules}.", "  ")
    for note in report.notes:
        lines += _wrap(note, "  ")
    return lines


def _needed(report: Report, pen: _Pen) -> list[str]:
    lines = [pen.title("What is still needed"), *_wrap(report.needed_sentence, "  ")]
    for gate in report.gates:
        mark = pen.tone("met    ", "good") if gate.is_met else pen.tone("not met", "wait")
        wrapped = _wrap(f"{gate.title}: {gate.sentence}", " " * 11)
        lines += [f"  {mark}  {wrapped[0].strip()}", *wrapped[1:]]
    return lines


def _differs(report: Report, pen: _Pen) -> list[str]:
    lines = [pen.title("What differs")]
    lines += [
        f"  {text.grouped(count):>9}  {kind:<17} {words.KINDS[kind]}" for kind, count in report.kinds.items() if count
    ]
    if not report.run.compared:
        lines.append("  nothing was compared, so nothing is known")
    for finding in report.findings[:_MOST_FINDINGS]:
        lines += _wrap(f"{finding.name}  {finding.sentence}", "  ", " " * 12)
        for example in finding.examples[:1]:
            lines += [
                pen.faint(_cut(f"            tick {example.tick}  {example.path}")),
                pen.faint(_cut(f"              {report.run.control:<7} {example.control}")),
                pen.faint(_cut(f"              {report.run.candidate:<7} {example.candidate}")),
            ]
    left = report.findings_total - min(len(report.findings), _MOST_FINDINGS)
    if left > 0:
        lines.append(f"  and {text.times(left, 'more finding')}: `tickover findings {report.run.run}`")
    for rule in report.rules:
        until = f", until {rule.expires}" if rule.expires else ""
        said = f"rule {rule.name} {words.hid(rule)}; {rule.owner}{until}: {rule.reason}"
        lines += _wrap(said, "  ", "    ")
    return lines


def _speed(report: Report, pen: _Pen) -> list[str]:
    speed, lines = report.speed, [pen.title("Is it faster")]
    if speed is None:
        return [*lines, "  no tick ended well in both systems"]
    lines += _wrap(speed.sentence, "  ")
    lines.append("  " + " " * 20 + "".join(f"{share:>12}" for share in words.SHARES))
    for side, found in ((report.run.control, speed.control_ms), (report.run.candidate, speed.candidate_ms)):
        lines.append(f"  {side:<20}" + "".join(f"{text.duration(found[share]):>12}" for share in words.SHARES))
    ratios = "".join(f"{speed.ratio[share]:>11.2f}x" if share in speed.ratio else " " * 12 for share in words.SHARES)
    lines.append(f"  {'ratio, tick by tick':<20}{ratios}")
    grown = words.grown(report)
    if grown:
        lines.append(
            f"  {'grown by at most':<20}" + "".join(f"{grown.get(share, '–'):>12}" for share in words.SHARES)
        )
    return lines


def _faults(report: Report, pen: _Pen) -> list[str]:
    lines = [pen.title("When things break")]
    if not report.faults:
        return [*lines, "  no drill yet: nothing is known about recovery; `tickover drill` injects faults, on copies"]
    sides = "".join(f"{side:>10}{'in':>9}" for side in (report.run.control, report.run.candidate))
    lines.append(pen.faint(f"  {'fault':<26}{'trials':>7}{sides}{'lost':>7}{'doubled':>9}"))
    for fault in report.faults:
        old = "n/a" if fault.control_recovered is None else text.grouped(fault.control_recovered)
        lines.append(
            f"  {_fit(words.fault(fault), 26)}{text.grouped(fault.trials):>7}"
            f"{old:>10}{words.took(fault.control_s):>9}"
            f"{text.grouped(fault.candidate_recovered):>10}{words.took(fault.candidate_s):>9}"
            f"{text.grouped(fault.lost):>7}{text.grouped(fault.duplicated):>9}"
        )
    lines.append(pen.faint("  recovered, and the median time in which; effects that the new system lost or doubled"))
    return lines


def _criteria(report: Report, pen: _Pen) -> list[str]:
    if not report.criteria:
        return []
    sure = f"{100 * (1 - report.policy.alpha):g} %"
    lines = [pen.title(f"How sure is this (each bound holds with {sure}, whenever you look)")]
    lines.append(
        pen.faint(f"  {'criterion':<34}{'':<10}{'against':>8}{'of':>10}{'at most':>14}{'budget':>13}{'evidence':>9}")
    )
    lines += [_criterion_line(criterion, pen) for criterion in report.criteria]
    if report.dependence.episodes:
        lines += _wrap(words.bursts(report), "  ")
    if report.dependence.warning:
        lines += _wrap(f"Mind: {report.dependence.warning}", "  ")
    return lines


def _criterion_line(criterion: Criterion, pen: _Pen) -> str:
    word, tone = words.STATUSES[criterion.status]
    name = criterion.name if criterion.critical else f"{criterion.name} (adv.)"
    odds = "over 1e6" if criterion.evidence >= 1e6 else text.short(criterion.evidence)
    return (
        f"  {_fit(name, 34)}{pen.tone(f'{word:<10}', tone)}{words.number(criterion.bad):>8}"
        f"{words.number(criterion.n):>10}{words.amount(criterion, criterion.bound):>14}"
        f"{words.amount(criterion, criterion.budget):>13}{odds:>9}"
    )


def _unseen(report: Report, pen: _Pen) -> list[str]:
    surface = report.surface
    lines = [pen.title("What was not observed")]
    lines += _wrap(f"watched: {', '.join(surface.observed) or 'nothing'}", "  ", "    ")
    lines += _wrap(f"used but not watched: {', '.join(surface.unobserved) or 'nothing that was seen'}", "  ", "    ")
    for reason, count in surface.not_compared[:3]:
        lines += _wrap(f"{text.times(count, 'tick')} not compared: {reason}", "  ", "    ")
    return lines


def _more(report: Report) -> list[str]:
    name = report.run.run
    return _wrap(
        f"`tickover report {name} --html FILE` shows it with plots, `--explain CRITERION` the ticks behind a figure, "
        "`--verify` computes the verdict again from what is stored."
    )


def _wrap(what: str, first: str = "", rest: str | None = None) -> list[str]:
    return textwrap.wrap(
        what, WIDTH, initial_indent=first, subsequent_indent=first if rest is None else rest, break_on_hyphens=False
    ) or [first.rstrip()]


def _cut(line: str) -> str:
    """The line, no wider than the terminal is taken to be."""
    return line if _columns(line) <= WIDTH else _fit(line, WIDTH).rstrip()


def _fit(what: str, columns: int) -> str:
    """The text in exactly so many columns: cut with an ellipsis, or filled up; wide characters count as two."""
    if _columns(what) > columns - 1:
        kept = ""
        for char in what:
            if _columns(kept + char) > columns - 2:
                break
            kept += char
        what = kept + "…"
    return what + " " * (columns - _columns(what))


def _columns(what: Iterable[str]) -> int:
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in what
    )
