"""Tests of shadow.switchover: what may be forced, and with which code a refusal ends."""

from __future__ import annotations

import pytest

from shadow.preflight import Check
from shadow.switchover import NotSafe, TooEarly, require
from tickover.errors import ExitCode


def _check(name: str, *, passed: bool, may_be_forced: bool = True) -> Check:
    return Check(name=name, passed=passed, said="", may_be_forced=may_be_forced)


def test_a_failed_check_is_refused_by_name_and_may_be_forced() -> None:
    """Without --force the failed checks are named; with it they do not bar the way."""
    checks = [_check("route", passed=True, may_be_forced=False), _check("verdict", passed=False)]
    with pytest.raises(NotSafe, match=r"verdict failed; .*--force") as caught:
        require(checks, "NOT_READY", force=False)
    assert caught.value.exit_code is ExitCode.NOT_READY
    require(checks, "NOT_READY", force=True)


def test_what_no_reason_outweighs_is_not_forced() -> None:
    """A hold, a route that has moved and a state that is lost on the way back bar the way whatever is said."""
    checks = [_check("holds", passed=False, may_be_forced=False), _check("verdict", passed=False)]
    for force in (True, False):
        with pytest.raises(NotSafe, match="holds failed, which --force does not overrule"):
            require(checks, "READY", force=force)


def test_a_verdict_that_is_open_has_a_code_of_its_own() -> None:
    """KEEP_RUNNING alone ends with 4; together with anything else that failed, with 1."""
    open_verdict = _check("verdict", passed=False)
    with pytest.raises(TooEarly) as caught:
        require([open_verdict], "KEEP_RUNNING", force=False)
    assert caught.value.exit_code is ExitCode.KEEP_RUNNING
    with pytest.raises(NotSafe) as both:
        require([open_verdict, _check("workers", passed=False)], "KEEP_RUNNING", force=False)
    assert both.value.exit_code is ExitCode.NOT_READY
