"""How two systems are to be compared, as options of the commands that do so: `serve --shadow` and `shadow`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from tickover.ground.units import SHARE

_Command = Callable[..., Any]


def comparing(condition: str = "") -> Callable[[_Command], _Command]:
    """Gives a command the options --rules, --noise and --on-miss, as `rules_file`, `noise` and `on_miss`.

    condition: under which alone they count, for their help; empty for none.
    """

    def says(what: str) -> str:
        return f"{condition}: {what[0].lower()}{what[1:]}" if condition else what

    options = (
        click.option(
            "--rules", "rules_file", type=click.Path(dir_okay=False), default=None, show_envvar=True,
            help=says("Tolerances, ignores and redactions, as TOML."),
        ),
        click.option(
            "--noise", type=SHARE, default="0%", show_default=True, show_envvar=True,
            help=says("Share of ticks on which the old system runs twice, to see where it differs from itself."),
        ),
        click.option(
            "--on-miss", type=click.Choice(["live", "fail"]), default="live", show_default=True, show_envvar=True,
            help=says("What a candidate's call does that is on no tape."),
        ),
    )  # fmt: skip

    def give(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return give
