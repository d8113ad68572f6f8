"""Durations and shares as people write them, for all commands alike."""

from __future__ import annotations

import re
from typing import Any

import click

from tickover.errors import ConfigurationError

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?\Z")
_UNITS_S = (86400.0, 3600.0, 60.0, 1.0)


def duration_s(text: str) -> float:
    """Seconds of `24h`, `90s`, `1h30m`; a bare number is seconds. Raises ConfigurationError for anything else."""
    match = _DURATION.match(text.strip())
    if not match or not any(match.groups()):
        raise ConfigurationError(f"{text!r} is no duration; write it like 24h, 90s or 1h30m")
    return sum(float(number) * unit for number, unit in zip(match.groups(), _UNITS_S, strict=True) if number)


def share(text: str) -> float:
    """The share that `5%` or `0.05` says. Raises ConfigurationError for anything else."""
    try:
        found = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        found = -1.0
    if not 0 <= found <= 1:
        raise ConfigurationError(f"{text!r} is no share; write it like 5% or 0.05")
    return found


class _Duration(click.ParamType[float]):
    """An option that is a duration, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The seconds; a default that is a number is that already."""
        return value if isinstance(value, float) else duration_s(value)


class _Share(click.ParamType[float]):
    """An option that is a share, from 0 to 1."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The share; a default that is a number is that already."""
        return value if isinstance(value, float) else share(value)


DURATION, SHARE = _Duration(), _Share()
