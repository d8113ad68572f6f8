"""Tests of reports.switch_plan: what a tired operator reads before agreeing."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from async_tick.guardrails import Guardrails
from async_tick.route import Route
from reports.switch_plan import Plan, render_checks, render_plan
from shadow.preflight import Check
from tickover.execution import System

SEEN = Route(
    owner=System.LEGACY, epoch=1, holds=0, author="ada", reason="", changed_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
)
NONE = Guardrails(
    failed=None, lost=None, slow=None, mismatches=None, latency_factor=None, hung_s=None, unserved_s=None
)  # fmt: skip


def _plan(guardrails: Guardrails, *, served: bool, backup: Path | None) -> str:
    return render_plan(
        Plan(seen=SEEN, run="main", tick=17, home=Path("/h"), served=served, backup=backup, guardrails=guardrails)
    )


def test_a_plan_says_what_moves_when_who_watches_and_how_to_go_back() -> None:
    """Each of the questions that are asked at night has its line."""
    said = _plan(Guardrails(window_ticks=9, failed=2), served=True, backup=Path("/b"))
    for part in (
        "from tick 17 on: legacy -> async; it goes on by itself", "between two ticks", "/b", "first 9 ticks",
        "failed ticks: 2", "tickover rollback --reason", "nothing that was written since is lost",
    ):  # fmt: skip
        assert part in said, part


def test_a_plan_says_what_is_missing() -> None:
    """No loop, no backup, no guardrail: each is named, with the command where there is one."""
    said = _plan(NONE, served=False, backup=None)
    assert "`tickover serve --run main` begins with the new system" in said
    assert "nothing is backed up" in said and "none: the policy has switched all of them off" in said


def test_checks_are_marked() -> None:
    """Passed, passed with a note, and failed."""
    lines = render_checks([
        Check(name="route", passed=True, said="a"), Check(name="scale", passed=True, is_note=True, said="b"),
        Check(name="workers", passed=False, is_note=True, said="c"),
    ]).splitlines()  # fmt: skip
    assert [line.split()[0] for line in lines] == ["ok", "note", "FAILED"]
