"""The report as Markdown for a pull request or the summary of a job: short, and safe whatever the values hold."""

from __future__ import annotations

from reports import text, words
from reports.criterion import Criterion
from reports.gates import folded
from reports.model import Report

_SIGNS = {"READY": "✅", "NOT_READY": "❌", "KEEP_RUNNING": "⏳"}
_MOST_FINDINGS = 10


def render(report: Report) -> str:
    """The page as Markdown that any renderer of tables understands."""
    run, verdict = report.run, report.verdict
    scaled = f" (scaled to {run.time_scale:g} of real time)" if run.is_scaled else ""
    md = text.markdown
    lines = [
        f"## {_SIGNS[verdict.status]} {words.VERDICTS[verdict.status]}{scaled}",
        "",
        md(verdict.headline, 1000),
        "",
        f"Run {md(run.run)} of {md(run.workload)}, {run.status}: {text.grouped(run.compared)} of "
        f"{text.times(run.planned, 'tick')} compared, {text.hours(run.covered_s)} observed, policy "
        f"{md(report.policy.name)}.",
    ]
    reasons = (*verdict.vetoes, *verdict.reasons)
    if reasons:
        lines += ["", "### Why not", "", *(f"- {md(reason, 1000)}" for reason in reasons)]
    lines += ["", *(md(note, 1000) for note in report.notes)] if report.notes else []
    lines += ["", "### What is still needed", "", md(report.needed_sentence, 1000), ""]
    lines += [f"- {'met' if gate.is_met else '**not met**'}: {md(gate.title)}: {md(gate.sentence, 500)}"
              for gate in folded(report.gates)]  # fmt: skip
    lines += ["", "### What differs", "", *_table(("ticks", "kind"), [
        (text.grouped(count), words.KINDS[kind]) for kind, count in report.kinds.items() if count
    ])]  # fmt: skip
    if not run.compared:
        lines += ["Nothing was compared, so nothing is known."]
    for finding in report.findings[:_MOST_FINDINGS]:
        lines += ["", f"- **{md(finding.title)}** ({finding.name}): {text.times(finding.count, 'tick')}, "
                  f"{words.place(finding)}"]  # fmt: skip
        lines += [
            f"  - tick {example.tick}, {md(example.path)}: {md(run.control)} `{_code(example.control)}`, "
            f"{md(run.candidate)} `{_code(example.candidate)}`"
            for example in finding.examples[:1]
        ]
    if report.findings_total > _MOST_FINDINGS:
        lines += ["", f"{report.findings_total - _MOST_FINDINGS} more findings."]
    lines += [f"- rule {md(rule.name)} {md(words.hid(rule), 500)}: {md(rule.reason, 500)}"
              for rule in report.rules if rule.ticks]  # fmt: skip
    if verdict.without_rules:
        lines += ["", f"Without rules the verdict would be **{verdict.without_rules}**."]
    if report.speed is not None:
        rows = [
            (side, *(text.duration(found[share]) for share in words.SHARES))
            for side, found in ((run.control, report.speed.control_ms), (run.candidate, report.speed.candidate_ms))
        ]
        lines += ["", "### Is it faster", "", md(report.speed.sentence, 1000), ""]
        lines += _table(("a tick takes", *words.SHARES), rows)
    lines += ["", "### What happens when things break", "", *_faults(report)]
    lines += ["", "### How sure is this", "", *_table(
        ("criterion", "", "against", "of", "at most", "budget", "evidence"), [_criterion(c) for c in report.criteria]
    )]  # fmt: skip
    unseen = ", ".join(report.surface.unobserved) or "nothing that was seen"
    lines += ["", f"Used but not observed: {md(unseen, 1000)}."]
    lines += [f"- {text.times(count, 'tick')} not compared: {md(reason, 500)}"
              for reason, count in report.surface.not_compared]  # fmt: skip
    return "\n".join(lines) + "\n"


def _criterion(criterion: Criterion) -> tuple[str, ...]:
    word, _ = words.STATUSES[criterion.status]
    return (
        text.markdown(criterion.title) + ("" if criterion.critical else " (advisory)"),
        f"**{word}**" if word != "pass" else word,
        words.number(criterion.bad),
        words.number(criterion.n),
        words.amount(criterion, criterion.bound),
        words.amount(criterion, criterion.budget),
        text.odds(criterion.evidence),
    )


def _faults(report: Report) -> list[str]:
    if not report.faults:
        return ["No drill yet: nothing is known about recovery."]
    control, candidate = report.run.control, report.run.candidate
    head = ("fault", "trials", f"{control} recovered", "in", f"{candidate} recovered", "in", "lost", "doubled")
    return _table(head, [
        (
            text.markdown(words.fault(f)), text.grouped(f.trials),
            "n/a" if f.control_recovered is None else text.grouped(f.control_recovered), words.took(f.control_s),
            text.grouped(f.candidate_recovered), words.took(f.candidate_s), text.grouped(f.lost),
            text.grouped(f.duplicated),
        )
        for f in report.faults
    ])  # fmt: skip


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]


def _code(value: str) -> str:
    """Safe text within a code span: only a backtick could end it, and a bar could end a table's cell."""
    return value.replace("`", "ˋ").replace("|", "¦") or " "
