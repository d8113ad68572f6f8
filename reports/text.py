"""Numbers, durations and foreign values as text that is safe to show: in a terminal, in Markdown, anywhere."""

from __future__ import annotations

import math
import unicodedata

from tickover.canonical import Json, canonical_text

# Categories whose characters move the cursor, reorder text or cannot be seen: they are shown by number.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_MARKDOWN = str.maketrans({char: f"\\{char}" for char in "\\`*_{}[]()#+!|~>"} | {"<": "&lt;", "&": "&amp;"})
_THIN = "\N{NARROW NO-BREAK SPACE}"


def plain(text: str, limit: int = 200) -> str:
    """The text on one line with whatever is no visible character written as its number, at most `limit` characters
    of it: nothing in it can move a cursor, change a colour or reverse the order of reading."""
    shown: list[str] = []
    for char in text[:limit]:
        if char == " " or unicodedata.category(char) not in _INVISIBLE:
            shown.append(char)
        else:
            shown.append({"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(char) or f"\\u{ord(char):04x}")
    if len(text) > limit:
        shown.append(f"… ({grouped(len(text))} characters)")
    return "".join(shown)


def shown(value: Json, limit: int = 200) -> str:
    """A JSON value as safe text: itself if it is text, else its canonical JSON."""
    if isinstance(value, dict) and value.keys() == {"clipped", "chars"}:
        return f"{plain(str(value['clipped']), limit)} ({grouped(int(value['chars']))} characters in all)"
    return plain(canonical_text(value), limit)


def markdown(text: str, limit: int = 200) -> str:
    """The text for Markdown: nothing in it is taken for markup, a mention or a link."""
    safe = plain(text, limit).translate(_MARKDOWN)
    # A zero-width joiner after @ and between http and :// keeps a code host from notifying people and making links.
    return safe.replace("@", "@\u200d").replace("://", ":\u200d//").replace("www.", "www\u200d.")


def grouped(number: float) -> str:
    """A whole number with its thousands apart: 1 440."""
    return f"{number:,.0f}".replace(",", _THIN)


def counted(number: float) -> str:
    """A count, which may be a fraction where averages are counted: 1 000 000, 0.4."""
    return grouped(number) if number == int(number) else f"{number:.3g}"


def percent(share: float, digits: int = 2) -> str:
    """A share as percent, to as many significant digits as tell it from its neighbours: 0.49 %."""
    if not math.isfinite(share):
        return "unknown"
    value = share * 100
    if value != 0 and abs(value) < 0.1:
        return f"{value:.{digits}g} %"
    return f"{value:.{digits}f}".rstrip("0").rstrip(".") + " %"


def points(difference: float) -> str:
    """A difference of two shares, in percentage points with its sign: +0.72 pp."""
    if not math.isfinite(difference):
        return "unknown"
    return f"{difference * 100:+.2f} pp" if abs(difference) >= 5e-5 else "0 pp"


def duration(milliseconds: float | None) -> str:
    """Milliseconds for people: 840 ms, 12.4 s, 3.1 min; `never` for a tick that did not end well."""
    if milliseconds is None:
        return "unknown"
    if math.isinf(milliseconds):
        return "never"
    if milliseconds < 1000:
        return f"{short(milliseconds)} ms"
    return hours(milliseconds / 1000)


def hours(seconds: float | None) -> str:
    """A span of time for people: 40 s, 12 min, 10.7 h, 3.2 days."""
    if seconds is None or math.isinf(seconds):
        return "unknown"
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{short(seconds / unit)} {name}"
    return f"{short(seconds / 86400)} days"


def fold(ratio: float) -> str:
    """How many times as long: 0.98×; beyond a thousand no figure says more, and it would not fit its column."""
    return f"{ratio:.2f}×" if ratio < 1000 else f"over {grouped(1000)}×"


def short(number: float) -> str:
    """Three significant digits, never in powers of ten."""
    return grouped(number) if number >= 99.95 else f"{number:.3g}"


def odds(evidence: float) -> str:
    """A betting score for people: 22.8 : 1, and no more digits than it has meaning."""
    if math.isinf(evidence) or evidence >= 1e6:
        return "over 10⁶ : 1"
    return f"{short(evidence)} : 1"


def times(count: int, noun: str) -> str:
    """A count with its noun: 1 tick, 1 440 ticks."""
    return f"{grouped(count)} {noun}{'' if count == 1 else 's'}"
