"""The report for a terminal: at most 100 columns, colour only where it is wanted."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Sequence

import click

from reports import text, words
from reports.criterion import Criterion
from reports.gates import folded
from reports.model import Report

WIDTH, NARROWEST = 100, 72
# Of the 256 colours: green, red and amber that stand out from white and from black by 4 to 1. What the sixteen names
# mean is the terminal's choice, and the yellow of many cannot be read on white.
_COLOURS = {"good": 28, "bad": 196, "wait": 130}
_TONES = {"READY": "good", "NOT_READY": "bad", "KEEP_RUNNING": "wait"}
# Reasons, findings and criteria beyond these say less than the command that lists them all.
_MOST_REASONS, _MOST_FINDINGS = 8, 8


def render(report: Report, *, colour: bool, width: int = WIDTH) -> str:
    """The report as lines of text, the verdict first. colour: with escape sequences for a terminal. width: columns
    of the terminal; beyond 100 stays empty, and below 72 lines are wider than it."""
    pen = _Pen(colour, max(NARROWEST, min(width, WIDTH)))
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
        _more(report, pen),
    ):
        if part:
            lines += ["", *part] if lines else part
    return "\n".join(lines)


class _Pen:
    """Writes words in colour, or not."""

    def __init__(self, colour: bool, width: int) -> None:
        self.colour, self.width = colour, width

    def wrap(self, what: str, first: str = "", rest: str | None = None) -> list[str]:
        return _wrap(what, self.width, first, rest)

    def cut(self, line: str) -> str:
        return _cut(line, self.width)

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
    lines = pen.wrap(
        f"Run {run.run} of {run.workload}: {run.status}, {text.grouped(run.compared)} of "
        f"{text.times(run.planned, 'tick')} compared, {text.hours(run.covered_s)} observed"
    )
    lines += ["", f"  {pen.tone(word, _TONES[verdict.status], bold=True)}{scaled}, policy {report.policy.name}"]
    return lines + pen.wrap(verdict.headline, "  ")


def _why(report: Report, pen: _Pen) -> list[str]:
    verdict = report.verdict
    reasons = [*verdict.vetoes, *verdict.reasons]
    lines: list[str] = []
    if reasons:
        lines += [pen.title("Why not")]
        for reason in reasons[:_MOST_REASONS]:
            lines += pen.wrap(reason, "  - ", "    ")
        if len(reasons) > _MOST_REASONS:
            lines.append(f"  - and {len(reasons) - _MOST_REASONS} more, with --json or --html")
    if verdict.without_rules:
        lines += pen.wrap(f"Without rules the verdict would be {verdict.without_rules}.", "  ")
    for note in report.notes:
        lines += pen.wrap(note, "  ")
    return lines


def _needed(report: Report, pen: _Pen) -> list[str]:
    lines = [pen.title("What is still needed"), *pen.wrap(report.needed_sentence, "  ")]
    for gate in folded(report.gates):
        mark = pen.tone("met    ", "good") if gate.is_met else pen.tone("not met", "wait")
        wrapped = pen.wrap(f"{gate.title}: {gate.sentence}", " " * 11)
        lines += [f"  {mark}  {wrapped[0].strip()}", *wrapped[1:]]
    return lines


def _differs(report: Report, pen: _Pen) -> list[str]:
    lines = [pen.title("What differs")]
    lines += [
        pen.cut(f"  {text.grouped(count):>9}  {kind:<17} {words.KINDS[kind]}")
        for kind, count in report.kinds.items()
        if count
    ]
    if not report.run.compared:
        lines.append("  nothing was compared, so nothing is known")
    for finding in report.findings[:_MOST_FINDINGS]:
        lines += pen.wrap(f"{finding.name}  {finding.sentence}", "  ", " " * 12)
        for example in finding.examples[:1]:
            lines += [
                pen.faint(pen.cut(f"            tick {example.tick}  {example.path}")),
                pen.faint(pen.cut(f"              {report.run.control:<7} {example.control}")),
                pen.faint(pen.cut(f"              {report.run.candidate:<7} {example.candidate}")),
            ]
    left = report.findings_total - min(len(report.findings), _MOST_FINDINGS)
    if left > 0:
        lines.append(f"  and {text.times(left, 'more finding')}: `tickover findings {report.run.run}`")
    for rule in report.rules:
        until = f", until {rule.expires}" if rule.expires else ""
        said = f"rule {rule.name} {words.hid(rule)}; {rule.owner}{until}: {rule.reason}"
        lines += pen.wrap(said, "  ", "    ")
    return lines


def _speed(report: Report, pen: _Pen) -> list[str]:
    speed, lines = report.speed, [pen.title("Is it faster")]
    if speed is None:
        return [*lines, "  no tick ended well in both systems"]
    lines += pen.wrap(speed.sentence, "  ")
    lines.append("  " + " " * 20 + "".join(f"{share:>12}" for share in words.SHARES))
    for side, found in ((report.run.control, speed.control_ms), (report.run.candidate, speed.candidate_ms)):
        lines.append(f"  {side:<20}" + "".join(f" {text.duration(found[share]):>11}" for share in words.SHARES))
    ratios = "".join(f"{text.fold(speed.ratio[share]) if share in speed.ratio else '':>12}" for share in words.SHARES)
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
        said = "no drill yet: nothing is known about recovery; `tickover drill` injects faults, on copies"
        return [*lines, *pen.wrap(said, "  ")]
    name = 26 - max(0, 89 - pen.width)
    sides = "".join(f"{side:>10}{'in':>9}" for side in (report.run.control, report.run.candidate))
    lines.append(pen.faint(f"  {'fault':<{name}}{'trials':>7}{sides}{'lost':>7}{'doubled':>9}"))
    for fault in report.faults:
        old = "n/a" if fault.control_recovered is None else text.grouped(fault.control_recovered)
        lines.append(
            f"  {_fit(words.fault(fault), name)}{text.grouped(fault.trials):>7}"
            f"{old:>10}{words.took(fault.control_s):>9}"
            f"{text.grouped(fault.candidate_recovered):>10}{words.took(fault.candidate_s):>9}"
            f"{text.grouped(fault.lost):>7}{text.grouped(fault.duplicated):>9}"
        )
    said = "recovered, and the median time in which; effects that the new system lost or doubled"
    return lines + [pen.faint(line) for line in pen.wrap(said, "  ")]


def _criteria(report: Report, pen: _Pen) -> list[str]:
    if not report.criteria:
        return []
    sure = f"{100 * (1 - report.policy.alpha):g} %"
    lines = [pen.title(f"How sure is this (each bound holds with {sure}, whenever you look)")]
    head = ("criterion", "", "against", "of", "at most", "budget", "evidence")
    lines.append(pen.faint(_criterion_row(pen, head, str)))
    lines += [_criterion_line(criterion, pen) for criterion in report.criteria]
    if report.dependence.episodes:
        lines += pen.wrap(words.bursts(report), "  ")
    if report.dependence.warning:
        lines += pen.wrap(f"Mind: {report.dependence.warning}", "  ")
    return lines


def _criterion_line(criterion: Criterion, pen: _Pen) -> str:
    word, tone = words.STATUSES[criterion.status]
    name = criterion.name if criterion.critical else f"{criterion.name} (adv.)"
    odds = "over 1e6" if criterion.evidence >= 1e6 else text.short(criterion.evidence)
    cells = (
        name, word, words.number(criterion.bad), words.number(criterion.n), words.amount(criterion, criterion.bound),
        words.amount(criterion, criterion.budget), odds,
    )  # fmt: skip
    return _criterion_row(pen, cells, lambda word: pen.tone(word, tone))


def _criterion_row(pen: _Pen, cells: Sequence[str], paint: Callable[[str], str]) -> str:
    """A row of the table of criteria: in less room, closer together, and in little room without the evidence."""
    roomy = pen.width >= WIDTH
    status, *widths = (10, 8, 10, 14, 13, 9) if roomy else (8, 8, 10, 12, 11, 9)
    if pen.width < 88:
        widths.pop()
    name, word, *numbers = cells
    room = pen.width - 2 - status - sum(widths)
    shown = "".join(f"{number:>{width}}" for number, width in zip(numbers, widths, strict=False))
    return f"  {_fit(name, room)}{paint(f'{word:<{status}}')}{shown}"


def _unseen(report: Report, pen: _Pen) -> list[str]:
    surface = report.surface
    lines = [pen.title("What was not observed")]
    lines += pen.wrap(f"watched: {', '.join(surface.observed) or 'nothing'}", "  ", "    ")
    lines += pen.wrap(
        f"used but not watched: {', '.join(surface.unobserved) or 'nothing that was seen'}", "  ", "    "
    )
    for reason, count in surface.not_compared[:3]:
        lines += pen.wrap(f"{text.times(count, 'tick')} not compared: {reason}", "  ", "    ")
    return lines


def _more(report: Report, pen: _Pen) -> list[str]:
    name = report.run.run
    return pen.wrap(
        f"`tickover report {name} --html FILE` shows it with plots, `--explain CRITERION` the ticks behind a figure, "
        "`--verify` computes the verdict again from what is stored."
    )


def _wrap(what: str, width: int, first: str, rest: str | None) -> list[str]:
    # A number and its percent sign stay on one line: a space that does not break takes the place of theirs.
    lines = textwrap.wrap(
        re.sub(r"(\d) %", "\\1\N{NO-BREAK SPACE}%", what), width, initial_indent=first,
        subsequent_indent=first if rest is None else rest, break_on_hyphens=False,
    )  # fmt: skip
    return [line.replace("\N{NO-BREAK SPACE}%", " %") for line in lines] or [first.rstrip()]


def _cut(line: str, width: int) -> str:
    """The line, no wider than the terminal is taken to be."""
    return line if columns(line) <= width else _fit(line, width).rstrip()


def _fit(what: str, room: int) -> str:
    """The text in exactly so many columns: cut with an ellipsis, or filled up; wide characters count as two."""
    if columns(what) > room - 1:
        kept = ""
        for char in what:
            if columns(kept + char) > room - 2:
                break
            kept += char
        what = kept + "…"
    return what + " " * (room - columns(what))


def columns(what: Iterable[str]) -> int:
    """The columns that a text takes in a terminal."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in what
    )
