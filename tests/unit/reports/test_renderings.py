"""Terminal, Markdown, page and JSON of one report: what they say, what they never let through."""

from __future__ import annotations

import dataclasses
import json
import re
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import pytest

from reports import html, markdown, terminal
from reports.build import safe
from reports.details import BoundCurve, Details, Timeline
from reports.model import ExampleFacts, FaultFacts, Report, SurfaceFacts
from reports.plots import Bar
from reports.tally import Bursts
from tests.unit.reports.report_sample import evidence, report

SCHEMA = json.loads((Path(__file__).parents[3] / "reports/schema/report.schema.json").read_text(encoding="utf-8"))
NASTY = "\x1b[2J<script>alert(1)</script>\u202e|`**](http://evil.example)\x07\n\x00"
EMPTY = Details(
    control_ms=(), candidate_ms=(), ratio_bins=(), ratio_limit=None, ratio_over_time=(), timeline=None, bounds=()
)
FULL = Details(
    control_ms=[100.0, 200.0, float("inf")], candidate_ms=[90.0, 150.0, 300.0],
    ratio_bins=[(0.8, 5), (0.88, 0), (0.97, 7)], ratio_limit=1.1,
    ratio_over_time=[(10, 0.5, 0.9, 1.4), (20, 0.6, 0.8, 1.1)],
    timeline=Timeline(
        tick=5, control_ms=200, candidate_ms=150,
        control=(Bar(step="<b>think", begins_ms=0, lasts_ms=100), Bar(step="act", begins_ms=100, lasts_ms=100)),
        candidate=(Bar(step="<b>think", begins_ms=0, lasts_ms=150, trouble=True),),
    ),
    bounds=[BoundCurve(criterion="mismatch", points=((10, 0.3), (100, 0.03)))],
)  # fmt: skip


def nasty() -> Report:
    """A report in which every text that a user's system can choose is hostile, made safe as `build` makes it."""
    found = report(evidence(bad=30))
    finding = found.findings[0]
    example = ExampleFacts(
        tick=1, step=NASTY, area="result", path=NASTY, nature="value", control=NASTY, candidate=NASTY * 100
    )
    return safe(
        dataclasses.replace(
            found,
            run=dataclasses.replace(found.run, workload=NASTY),
            findings=(dataclasses.replace(finding, title=NASTY, sentence=NASTY, step=NASTY, examples=(example,)),),
            verdict=dataclasses.replace(found.verdict, reasons=(NASTY,)),
            surface=SurfaceFacts(
                observed=(NASTY,), unobserved=(NASTY,), not_compared=((NASTY, 2),), not_applied=((NASTY, 1),)
            ),
            tolerated={NASTY: 3},
            faults=(
                FaultFacts(
                    kind=NASTY, trials=4, control_recovered=None, candidate_recovered=4, control_s=None,
                    candidate_s=1.5, lost=0, duplicated=0,
                ),
            ),
        )
    )  # fmt: skip


class Page(HTMLParser):
    """What a browser would load or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "action", "data", "srcset", "poster"):
                self.loads.append(value or "")
            if name == "id":
                self.ids.append(value or "")
            assert not name.startswith("on"), f"{tag} has {name}"


SAMPLES = {
    "ready": lambda: report(),
    "not ready": lambda: report(evidence(bad=300)),
    "keep running": lambda: report(evidence(n=30)),
    "empty": lambda: report(evidence(n=0, strata={}, slower_blocks={}, hours=0.0), speed=None),
    "hostile": nasty,
}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_terminal_takes_at_most_100_columns(name: str) -> None:
    """No line is wider, and without colour no character but visible ones is written."""
    shown = terminal.render(SAMPLES[name](), colour=False)
    assert max(map(len, shown.splitlines())) <= 100
    assert all(char == "\n" or unicodedata.category(char) not in ("Cc", "Cf") for char in shown)


def test_colour_is_written_only_where_it_is_asked_for() -> None:
    """With colour the same words stand between escape sequences."""
    found = report(evidence(bad=300))
    plain, coloured = terminal.render(found, colour=False), terminal.render(found, colour=True)
    assert "\x1b" not in plain and "\x1b[38;5;196m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain


@pytest.mark.parametrize(
    ("name", "word"),
    [("ready", "Ready"), ("not ready", "Not ready"), ("keep running", "Keep running"), ("empty", "Keep running")],
)
def test_every_rendering_leads_with_the_verdict(name: str, word: str) -> None:
    """The verdict stands in the page's heading and title, in Markdown's first line, and in capitals in a terminal."""
    found = SAMPLES[name]()
    assert word.upper() in terminal.render(found, colour=False).split("\n\n")[1]
    assert word in markdown.render(found).splitlines()[0]
    page = html.render(found, EMPTY)
    assert f'<h1 id="may">{word}</h1>' in page and f"<title>{word} –" in page


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("details", [EMPTY, FULL], ids=["no curves", "all curves"])
def test_the_page_loads_and_runs_nothing(name: str, details: Details) -> None:
    """No script, no address outside the page, no identifier twice, whatever the values hold."""
    text = html.render(SAMPLES[name](), details)
    page = Page(text)
    assert "script" not in page.tags
    assert [each for each in page.loads if not each.startswith(("#", "data:"))] == []
    assert not re.search(r"url\((?!#)|@import", text)
    assert len(page.ids) == len(set(page.ids))
    assert len(text.encode()) < 3_000_000
    assert not any(unicodedata.category(char) == "Cc" for char in text if char != "\n")


def test_the_page_answers_in_order() -> None:
    """The questions stand in the order in which a reader asks them."""
    text = html.render(report(evidence(bad=300)), FULL)
    questions = [
        "May I switch?", "Why not?", "What is still needed?", "What differs?", "Is it faster?",
        "What happens when things break?", "How sure is this?", "What was not observed?",
    ]  # fmt: skip
    places = [text.index(question) for question in questions]
    assert places == sorted(places)
    assert "No drill yet" in text and text.count("<svg") == 7


def test_a_pass_of_the_page_holds_both_sides_of_an_example() -> None:
    """The values of the two systems stand side by side under the finding."""
    text = html.render(report(evidence(bad=300)), EMPTY)
    assert "&#34;old&#34;" in text and "&#34;new&#34;" in text and "goal.text" in text


def test_a_command_in_a_sentence_is_code_on_the_page() -> None:
    """What stands between backticks is set as code, and stays text: no markup of a value comes through."""
    told = dataclasses.replace(report(evidence(bad=0)), needed_sentence="Run `tickover drill <b>`: 5 % of it.")
    assert "Run <code>tickover drill &lt;b&gt;</code>: 5\N{NO-BREAK SPACE}% of it." in html.render(told, EMPTY)


def test_markdown_holds_no_markup_of_a_value() -> None:
    """Outside of code spans neither a tag nor a link of a hostile value survives, no code span is left open, and
    tables keep their columns."""
    text = markdown.render(nasty())
    assert "<script" in text
    text = re.sub(r"(?<!\\)`[^`\n]*`", "", text)
    assert not re.search(r"(?<!\\)`", text)
    assert "<script" not in text and "](http" not in text
    for line in text.splitlines():
        if line.startswith("| ") and "criterion" not in line:
            assert line.endswith(" |")


@pytest.mark.parametrize("name", SAMPLES)
def test_json_follows_the_published_schema(name: str) -> None:
    """Every report validates, and no field is left out of the schema."""
    document = json.loads(json.dumps(SAMPLES[name]().to_json(), allow_nan=False))
    jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker()).validate(document)


def test_the_schema_refuses_what_is_no_report() -> None:
    """An unknown verdict and an unknown field are errors, so the schema is no rubber stamp."""
    document = json.loads(json.dumps(report().to_json()))
    for broken in ({**document, "surplus": 1}, {**document, "verdict": {**document["verdict"], "status": "MAYBE"}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft202012Validator(SCHEMA).validate(broken)


def test_both_systems_stand_side_by_side_under_each_fault() -> None:
    """Each rendering says of a kind of fault how often and how fast either system recovered and what was lost or
    doubled; where the old one has no counterpart, that it is not applicable; without drills, that there is none."""
    faults = (
        FaultFacts(
            kind="killed_worker", trials=12, control_recovered=3, candidate_recovered=12, control_s=41.5,
            candidate_s=1.8, lost=0, duplicated=2,
        ),
        FaultFacts(
            kind="lost_hint", trials=7, control_recovered=None, candidate_recovered=7, control_s=None,
            candidate_s=2.25, lost=1, duplicated=0,
        ),
    )  # fmt: skip
    found = report(faults=faults)
    shown = terminal.render(found, colour=False)
    rows = {row[2:].partition("  ")[0]: row.split() for row in shown.splitlines()}
    assert rows["killed worker"][2:] == ["12", "3", "41.5", "s", "12", "1.8", "s", "0", "2"]
    assert rows["lost hint"][2:] == ["7", "n/a", "–", "7", "2.25", "s", "1", "0"]
    assert "| killed worker | 12 | 3 | 41.5 s | 12 | 1.8 s | 0 | 2 |" in markdown.render(found)
    page = re.sub(r"<[^>]+>", " ", html.render(found, EMPTY))
    assert "12 3 12 41.5 s 1.8 s 0 2" in " ".join(page.split()) and "7 n/a 7 – 2.25 s 1 0" in " ".join(page.split())
    assert "no drill yet" in terminal.render(report(), colour=False)


@pytest.mark.parametrize(("n", "bad", "said"), [(2000, 3, True), (30, 30, False)])
def test_bursts_are_spoken_of_only_where_they_would_change_the_bound(n: int, bad: int, said: bool) -> None:
    """Where each tick differs, neither terminal nor page says what the bound would be in bursts: it would be 100 %
    as it is."""
    bursts = Bursts(longest_streak=1, episodes=3) if said else Bursts(longest_streak=bad, episodes=1)
    found = report(evidence(n=n, bad=bad, bursts=bursts))
    for shown in (terminal.render(found, colour=False), html.render(found, EMPTY)):
        assert "What counts against the new system came in" in shown
        assert ("in bursts of" in shown, "instead of 100" in shown) == (said, False)


def test_absurd_durations_stay_in_their_columns() -> None:
    """Days by the million, and ratios beyond any meaning, are told apart and fit."""
    found = report()
    assert found.speed is not None
    shares = dict.fromkeys(("p50", "p95", "p99"), 1e15)
    found = dataclasses.replace(
        found, speed=dataclasses.replace(found.speed, control_ms=shares, candidate_ms=shares, ratio=shares)
    )
    shown = terminal.render(found, colour=False).replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert " 11 574 074 days 11 574 074 days 11 574 074 days\n" in shown
    assert "over 1 000× over 1 000× over 1 000×" in " ".join(shown.split())
    assert "over 1\N{NARROW NO-BREAK SPACE}000×" in html.render(found, EMPTY)


def test_colours_can_be_read_on_white_and_on_black() -> None:
    """Each stands out from either by 4 to 1 (contrast as in WCAG 2)."""
    shown = "".join(terminal.render(report(evidence(n)), colour=True) for n in (2000, 20))
    shown += terminal.render(report(evidence(bad=300)), colour=True)
    numbers = {int(number) for number in re.findall(r"\x1b\[38;5;(\d+)m", shown)}
    assert len(numbers) == 3 and not re.search(r"\x1b\[(3[0-7]|9\d)m", shown)
    for number in numbers:
        levels = [(0, 95, 135, 175, 215, 255)[(number - 16) // unit % 6] / 255 for unit in (36, 6, 1)]
        linear = [level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4 for level in levels]
        luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        assert min(1.05 / (luminance + 0.05), (luminance + 0.05) / 0.05) >= 3.9, number


def test_what_can_scroll_is_reached_with_keys() -> None:
    """Each part of the page that may be wider than the window takes the focus and has a name."""
    opened = re.findall(r'<div class="scroll"[^>]*>', html.render(report(evidence(bad=30)), EMPTY))
    assert len(opened) >= 3
    assert all('tabindex="0" role="region" aria-label="' in tag for tag in opened)


@pytest.mark.parametrize("width", [72, 80, 88, 99, 100, 200])
def test_the_terminal_report_fits_the_terminal(width: int) -> None:
    """No line is wider than the terminal, or than 100 columns, whatever the report holds; the verdict stands at the
    top, and each criterion keeps its bound and budget."""
    for found in (report(), report(evidence(bad=30)), nasty()):
        lines = terminal.render(found, colour=False, width=width).splitlines()
        assert max(map(terminal.columns, lines)) <= min(width, 100)
        assert any("READY" in line for line in lines[:6])
        assert not any(line.strip().startswith("% ") for line in lines)
        row = next(line for line in lines if line.startswith("  mismatch "))
        assert f"{found.criteria[0].budget:.0%}".replace("%", " %") in row
