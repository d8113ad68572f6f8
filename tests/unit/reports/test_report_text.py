"""Foreign values and numbers as text that can be shown anywhere."""

from __future__ import annotations

import html
import math
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import text


@given(st.text())
def test_plain_text_holds_only_visible_characters(value: str) -> None:
    """Whatever a value holds, no control, format or surrogate character reaches a terminal."""
    shown = text.plain(value)
    assert all(
        char == " " or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") for char in shown
    )


def test_terminal_escapes_and_reversed_text_are_shown_by_number() -> None:
    """An escape sequence, a bell and a right-to-left override are named, and plain words stay as they are."""
    assert text.plain("\x1b[31mred\x07 \u202eevil\n") == "\\u001b[31mred\\u0007 \\u202eevil\\n"
    assert text.plain("größer – 大きい") == "größer – 大きい"


def test_long_values_are_cut_and_say_so() -> None:
    """What is cut names its full length, and a huge number does not fill the page."""
    assert text.plain("x" * 500, 10) == "xxxxxxxxxx… (500 characters)"
    assert len(text.shown(10**3000)) < 250


@given(st.text(alphabet="<>&`*_[]()#@|!\\:/w.ab\n"))
def test_markdown_escapes_leave_no_markup(value: str) -> None:
    """No tag, table bar, code span, mention or link survives in Markdown."""
    shown = text.markdown(value)
    bare = shown.replace("\\\\", "")
    assert "<" not in shown and "://" not in shown and "www." not in shown
    for char in "`*_[]()#|!":
        assert bare.count(char) == bare.count("\\" + char)
    assert html.unescape(shown) is not None
    assert all(shown[index + 1 : index + 2] == "\u200d" for index, char in enumerate(shown) if char == "@")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (text.percent(0.00498), "0.5 %"),
        (text.percent(0.0000123), "0.0012 %"),
        (text.percent(0), "0 %"),
        (text.percent(math.inf), "unknown"),
        (text.points(0.0072), "+0.72 pp"),
        (text.points(0.0), "0 pp"),
        (text.duration(839.9), "840 ms"),
        (text.duration(999.9), "1\N{NARROW NO-BREAK SPACE}000 ms"),
        (text.duration(12_400), "12.4 s"),
        (text.duration(math.inf), "never"),
        (text.duration(None), "unknown"),
        (text.hours(38_520), "10.7 h"),
        (text.hours(86_400_000), "1\N{NARROW NO-BREAK SPACE}000 days"),
        (text.counted(1e6), "1\N{NARROW NO-BREAK SPACE}000\N{NARROW NO-BREAK SPACE}000"),
        (text.counted(0.4), "0.4"),
        (text.fold(0.984), "0.98×"),
        (text.fold(1e21), "over 1\N{NARROW NO-BREAK SPACE}000×"),
        (text.odds(22.81), "22.8 : 1"),
        (text.odds(math.inf), "over 10⁶ : 1"),
        (text.times(1, "tick"), "1 tick"),
        (text.times(1440, "tick"), "1\N{NARROW NO-BREAK SPACE}440 ticks"),
    ],
)
def test_numbers_read_as_people_write_them(found: object, expected: object) -> None:
    """Three digits where they mean something, thousands apart, and words for what is no number."""
    assert found == expected
