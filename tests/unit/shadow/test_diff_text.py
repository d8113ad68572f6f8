"""Tests of shadow.diff_text: one tick as lines for people."""

from __future__ import annotations

from typing import Any

from shadow.diff_text import tick_lines

COMPARISON = {
    "kind": "mismatch", "reason": "differ", "differences_found": 3,
    "differences": [
        {"step": "meta", "area": "result", "path": ["items", 0, "text"], "nature": "value",
         "control": "a\x1b[31m\u202e", "candidate": "b" * 500},
    ],
}  # fmt: skip


def side(**step: Any) -> dict[str, Any]:
    """What one system did, with one step."""
    seen = {"status": "done", "started_ms": 50.0, "duration_ms": 50.0, **step}
    return {
        "system": "legacy", "outcome": "done", "duration_ms": 100.0, "steps": {"meta": seen},
        "effects": [{"step": "meta", "kind": "letters", "late": True, "payload": {"to": "Ann"}}],
    }  # fmt: skip


def test_a_difference_is_shown_with_its_place_and_both_sides() -> None:
    """Step, area and path on one line, the sides below; long values are cut, and what was left out is counted."""
    lines = list(tick_lines("r", 3, COMPARISON, {}))
    assert lines[:2] == ["tick 3 of r: mismatch – differ", "  step meta, result: items[0].text (value)"]
    assert lines[3].startswith('    candidate  "bbb') and lines[3].endswith("…") and len(lines[3]) < 120
    assert lines[4] == "  and 2 more differences"


def test_what_a_program_said_does_not_steer_the_terminal() -> None:
    """Escape sequences and marks that turn the direction of text are spelled out."""
    shown = list(tick_lines("r", 3, COMPARISON, {}))[2]
    assert shown.isprintable() and "[31m" in shown and "202e" in shown


def test_the_timeline_fits_the_tick() -> None:
    """A step in the second half fills the second half, and one that outlasts the tick ends with it."""
    control, late = side(), side(duration_ms=900.0)
    lines = list(tick_lines("r", 3, {**COMPARISON, "differences": []}, {"control": control, "candidate": late}))
    bars = [line for line in lines if "#" in line]
    assert bars[0] == f"  meta  done            {' ' * 20}{'#' * 20} 50 ms"
    assert bars[1] == f"  meta  done            {' ' * 20}{'#' * 20} 900 ms"
    assert '  effect meta: letters (late) {"to": "Ann"}' in lines


def test_a_step_that_was_not_reached_has_no_bar() -> None:
    """Its status stands alone."""
    lines = list(tick_lines("r", 3, COMPARISON, {"control": side(started_ms=None, duration_ms=None)}))
    assert "  meta  done" in lines
