"""One tick for people: what differs, with both sides, and what each system did when."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from shadow.diff import show

# Characters of a value that are shown, and of a bar that is as long as the tick.
_VALUE, _BAR = 100, 40


def tick_lines(
    run: str, tick: int, comparison: Mapping[str, Any], seen: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """The lines that show a tick. comparison, seen: the stored documents, of the latter one per purpose."""
    yield f"tick {tick} of {run}: {comparison['kind']} – {comparison['reason']}"
    for found in comparison["differences"]:
        yield f"  step {found['step']}, {found['area']}: {show(tuple(found['path']))} ({found['nature']})"
        yield f"    control    {_value(found['control'])}"
        yield f"    candidate  {_value(found['candidate'])}"
    left_out = comparison.get("differences_found", 0) - len(comparison["differences"])
    if left_out > 0:
        yield f"  and {left_out} more differences"
    for purpose, side in seen.items():
        yield from _side(purpose, side)


def _side(purpose: str, side: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield f"{purpose} ({side['system']}): {side['outcome']} in {side['duration_ms']:.0f} ms"
    width = max((len(step) for step in side["steps"]), default=0)
    for step, seen in side["steps"].items():
        yield f"  {step:<{width}}  {seen['status']:<14}  {_bar(seen, side['duration_ms'])}".rstrip()
    for effect in side["effects"]:
        late = " (late)" if effect["late"] else ""
        yield f"  effect {effect['step']}: {effect['kind']}{late} {_value(effect['payload'])}"


def _bar(seen: Mapping[str, Any], longest_ms: float) -> str:
    begun, lasted = seen["started_ms"], seen["duration_ms"]
    if begun is None or lasted is None:
        return ""
    # What was given up goes on after the tick: its bar ends with it.
    scale = _BAR / max(longest_ms, 1.0)
    before = min(_BAR - 1, round(scale * begun))
    return f"{' ' * before}{'#' * max(1, min(_BAR - before, round(scale * lasted)))} {lasted:.0f} ms"


def _value(value: Any) -> str:
    """The value as JSON, cut to a length, and safe to show: what a program said must not steer a terminal."""
    text = json.dumps(value, ensure_ascii=False)
    text = text if len(text) <= _VALUE else f"{text[: _VALUE - 1]}…"
    return "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in text)
