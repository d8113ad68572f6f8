"""The options that say how to compare, where two commands have them."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from async_tick.route_commands import serve
from shadow.commands import shadow
from tickover.errors import ConfigurationError

NAMES = ("rules_file", "noise", "on_miss")


def test_serve_and_shadow_take_the_same_options() -> None:
    """Names, types and defaults are equal; the help of `serve` says that they need --shadow."""

    def declared(command: Any, condition: str) -> list[Any]:
        options = [{**each.to_info_dict(), "class": type(each.type)} for each in command.params if each.name in NAMES]
        return [{**option, "help": str(option["help"]).removeprefix(condition).lower()} for option in options]

    assert [option["name"] for option in declared(shadow, "")] == list(NAMES)
    assert declared(serve, "With --shadow: ") == declared(shadow, "")
    assert declared(serve, "") != declared(shadow, "")


@pytest.mark.parametrize("command", [serve, shadow])
def test_a_share_that_is_none_is_refused_before_anything_else(command: Any) -> None:
    """Both say the same of it, also where a run is gone on with, whose own share would count."""
    resumed = ["--resume", "r"] if command is shadow else ["--shadow"]
    found = CliRunner().invoke(command, [*resumed, "--noise", "much"])
    assert isinstance(found.exception, ConfigurationError) and "'much' is no share" in str(found.exception)
