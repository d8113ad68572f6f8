"""Tests of tickover.ground.units: durations and shares as people write them."""

from __future__ import annotations

import pytest

from tickover.errors import ConfigurationError
from tickover.ground.units import DURATION, SHARE, duration_s, share


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("24h", 86400), ("90s", 90), ("1h30m", 5400), ("2d", 172800), ("0s", 0), ("1.5m", 90), ("60", 60), ("0", 0)],
)
def test_durations_are_seconds(text: str, seconds: float) -> None:
    """Days, hours, minutes and seconds, alone and together; a bare number is seconds."""
    assert duration_s(text) == DURATION.convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1", "1h 30m", "30m1h", "s"])
def test_what_is_no_duration_is_refused_by_name(text: str) -> None:
    """The message shows what was typed and how to write it."""
    with pytest.raises(ConfigurationError, match="is no duration; write it like 24h"):
        duration_s(text)


def test_shares_are_percent_or_fractions() -> None:
    """5% and 0.05 are the same."""
    assert share("5%") == SHARE.convert("0.05", None, None) == 0.05


@pytest.mark.parametrize("text", ["", "5 percent", "101%", "-1%", "7", "nan"])
def test_what_is_no_share_is_refused_by_name(text: str) -> None:
    """The message shows what was typed and how to write it."""
    with pytest.raises(ConfigurationError, match="is no share; write it like 5%"):
        share(text)
