"""Plots as inline SVG for the HTML report. Colours are CSS variables, so that one picture serves light, dark and
paper; text stays text. matplotlib is imported when the first plot is made."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

# Stand-ins that are replaced by CSS variables once the SVG is written.
_INK, _FAINT, _CONTROL, _CANDIDATE, _LIMIT, _GOOD, _BAD = (f"#01020{digit}" for digit in range(1, 8))
_VARIABLES = {
    _INK: "--ink-2", _FAINT: "--line", _CONTROL: "--control", _CANDIDATE: "--candidate", _LIMIT: "--ink-2",
    _GOOD: "--good", _BAD: "--bad",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """A step of a tick on a timeline, in milliseconds since the tick began; immutable."""

    step: str
    begins_ms: float
    lasts_ms: float
    trouble: bool = False


def distribution(control_ms: Sequence[float], candidate_ms: Sequence[float], label: str) -> str:
    """The share of ticks that were done within a time, for both systems. Each side: durations at equal steps of
    share, ascending; infinite where the tick did not end well."""

    def draw(axes: Any) -> None:
        for values, colour, name in (
            (control_ms, _CONTROL, "control"), (candidate_ms, _CANDIDATE, "candidate"),
        ):  # fmt: skip
            points = [(v / 1000, (i + 0.5) / len(values)) for i, v in enumerate(values) if math.isfinite(v)]
            if points:
                axes.plot(*zip(*points, strict=True), color=colour, linewidth=2, label=name)
        axes.set_ylim(0, 1)
        _percent(axes.yaxis)
        _log_seconds(axes, [v / 1000 for v in (*control_ms, *candidate_ms) if math.isfinite(v) and v > 0])
        axes.set_xlabel("seconds a tick")
        axes.set_ylabel("ticks done within")

    return _svg("distribution", label, 5.2, 2.9, draw)


def ratio_histogram(bins: Sequence[tuple[float, int]], limit: float | None, label: str) -> str:
    """How often the candidate took which multiple of the control's time. bins: (ratio at the left edge, ticks), the
    edges a constant factor apart; limit: the ratio that the policy allows."""

    def draw(axes: Any) -> None:
        factor = bins[1][0] / bins[0][0] if len(bins) > 1 else 1.1
        total = sum(count for _, count in bins) or 1
        lefts = [left for left, _ in bins]
        axes.bar(
            lefts, [count / total for _, count in bins], width=[left * (factor - 1) * 0.92 for left in lefts],
            align="edge", color=[_CANDIDATE if left * math.sqrt(factor) <= 1 else _CONTROL for left in lefts],
        )  # fmt: skip
        axes.set_xscale("log")
        _ratio_ticks(axes.xaxis, lefts[0], lefts[-1] * factor)
        axes.axvline(1, color=_INK, linewidth=1)
        if limit is not None:
            axes.axvline(limit, color=_LIMIT, linewidth=1, linestyle=(0, (4, 3)))
        _percent(axes.yaxis)
        axes.set_xlabel("candidate's time as a multiple of the control's")
        axes.set_ylabel("ticks")

    return _svg("ratio-histogram", label, 5.2, 2.9, draw)


def ratio_over_time(
    points: Sequence[tuple[int, float, float, float]], limit: float | None, label: str, width: float = 10.6
) -> str:
    """The ratio candidate / control as the run went on: (last tick, 10th percentile, median, 90th percentile)."""

    def draw(axes: Any) -> None:
        ticks = [point[0] for point in points]
        axes.fill_between(
            ticks, [point[1] for point in points], [point[3] for point in points], color=_CANDIDATE, alpha=0.18,
            linewidth=0,
        )  # fmt: skip
        axes.plot(ticks, [point[2] for point in points], color=_CANDIDATE, linewidth=2)
        axes.axhline(1, color=_INK, linewidth=1)
        if limit is not None:
            axes.axhline(limit, color=_LIMIT, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_yscale("log")
        low, high = min(point[1] for point in points), max(point[3] for point in points)
        _ratio_ticks(axes.yaxis, min(low, 0.8), max(high, 1.25))
        axes.set_xlabel("tick")
        axes.set_ylabel("candidate / control")

    return _svg(f"ratio-over-time-{width:g}", label, width, 2.6, draw)


def timeline(control: Sequence[Bar], candidate: Sequence[Bar], label: str, width: float = 10.6) -> str:
    """One tick in both systems, step by step, on one clock."""
    steps = list(dict.fromkeys(bar.step for bar in (*control, *candidate)))
    end_ms = max((bar.begins_ms + bar.lasts_ms for bar in (*control, *candidate)), default=1.0)
    unit, per = _unit(end_ms)
    # A step of no time is drawn all the same: it was there.
    least_ms = end_ms / 250

    def draw(axes: Any) -> None:
        for bars, colour, shift in ((control, _CONTROL, -0.19), (candidate, _CANDIDATE, 0.19)):
            for bar in bars:
                axes.barh(
                    steps.index(bar.step) + shift, max(bar.lasts_ms, least_ms) / per, left=bar.begins_ms / per,
                    height=0.34, color=_BAD if bar.trouble else colour, linewidth=0,
                )  # fmt: skip
        axes.set_yticks(range(len(steps)), [_clean(step) for step in steps])
        axes.invert_yaxis()
        axes.set_xlabel(f"{unit} since the tick began")
        axes.grid(axis="y", visible=False)

    return _svg(f"timeline-{width:g}", label, width, 0.9 + 0.38 * max(1, len(steps)), draw)


def shrinking_bound(name: str, points: Sequence[tuple[int, float]], budget: float, reached: bool, label: str) -> str:
    """How a bound shrank with the ticks seen, against its budget. points: (ticks, bound)."""

    def draw(axes: Any) -> None:
        ticks, bounds = [point[0] for point in points], [max(point[1], 1e-6) for point in points]
        floor = min(*bounds, budget) / 2
        axes.fill_between(ticks, floor, budget, color=_GOOD, alpha=0.12, linewidth=0)
        axes.axhline(budget, color=_LIMIT, linewidth=1, linestyle=(0, (4, 3)))
        axes.plot(ticks, bounds, color=_GOOD if reached else _CANDIDATE, linewidth=2)
        axes.set_yscale("log")
        axes.set_ylim(floor, max(*bounds, budget) * 1.4)
        axes.set_xlim(0, max(ticks[-1], 1))
        _percent(axes.yaxis)
        # The budget is what the eye looks for: it has a mark of its own, and decades too near to it have none.
        decades = [10.0**power for power in range(-6, 1)]
        marks = [mark for mark in decades if floor <= mark <= max(bounds) and abs(math.log10(mark / budget)) > 0.25]
        axes.set_yticks([*marks, budget])
        _few(axes.xaxis)

    return _svg(f"bound-{name}", label, 3.35, 1.75, draw)


def _svg(name: str, label: str, width: float, height: float, draw: Callable[[Any], None]) -> str:
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style: Any = {
        "svg.fonttype": "none", "svg.hashsalt": name, "font.size": 10.5, "axes.edgecolor": _FAINT,
        "axes.labelcolor": _INK, "text.color": _INK, "xtick.color": _FAINT, "ytick.color": _FAINT,
        "xtick.labelcolor": _INK, "ytick.labelcolor": _INK, "axes.grid": True, "grid.color": _FAINT,
        "grid.linewidth": 0.7, "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False,
        "axes.spines.left": False, "xtick.major.size": 3, "ytick.major.size": 0, "xtick.minor.size": 0,
        "ytick.minor.size": 0, "text.parse_math": False,
    }  # fmt: skip
    with rc_context(style):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.add_subplot())
        out = io.StringIO()
        nothing: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    return _inline(out.getvalue(), name, label)


def _inline(svg: str, name: str, label: str) -> str:
    """The SVG as part of a page: no prologue, no fixed size, identifiers of its own, colours by variable."""
    from html import escape

    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    box = re.search(r'viewBox="[^"]+"', svg)
    assert box is not None
    prefix = re.sub(r"\W+", "-", name).strip("-").lower()
    svg = re.sub(
        r"<svg[^>]*>", f'<svg {box.group()} class="plot" role="img" aria-label="{escape(label)}">', svg, count=1
    )
    svg = re.sub(r' id="([^"]+)"', rf' id="{prefix}-\1"', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\1{prefix}-", svg).replace("xlink:href", "href")
    svg = re.sub(r"font: (?:[\d.]+ )?([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    for stand_in, variable in _VARIABLES.items():
        svg = svg.replace(stand_in, f"var({variable})")
    return re.sub(r"\n\s*", "\n", svg).strip()


def _clean(text: str) -> str:
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)[:40]


def _unit(longest_ms: float) -> tuple[str, float]:
    return ("milliseconds", 1.0) if longest_ms < 2000 else ("seconds", 1000.0)


def _percent(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:.4g} %"))
    axis.set_minor_formatter(NullFormatter())


def _few(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(4, integer=True))
    axis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}"))
    )


def _log_seconds(axes: Any, values: Sequence[float]) -> None:
    if not values:
        return
    low, high = min(values), max(values)
    axes.set_xscale("log")
    axes.set_xlim(low * 0.9, high * 1.1)
    _log_ticks(axes.xaxis, low * 0.9, high * 1.1, "{:g}")


def _ratio_ticks(axis: Any, low: float, high: float) -> None:
    _log_ticks(axis, low, high, "{:g}×")


def _log_ticks(axis: Any, low: float, high: float, form: str) -> None:
    """Marks at round numbers, about five of them, however narrow or wide the range."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    for steps in ((1, 10), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), (1, 1.2, 1.5, 1.8, 2, 2.5, 3, 4, 5, 6, 8)):
        marks = [
            step * 10.0**power
            for power in range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
            for step in steps
        ]
        found = sorted({mark for mark in marks if low <= mark <= high})
        if len(found) >= 4:
            break
    axis.set_major_locator(FixedLocator(found[:: max(1, math.ceil(len(found) / 7))]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: form.format(round(value, 6))))
    axis.set_minor_locator(NullLocator())
