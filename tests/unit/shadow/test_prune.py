"""Which old runs may go."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest

from shadow.prune import choose
from shadow.prune_store import Aged

BEFORE = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


def aged(name: str, days_before: float, **changes: object) -> Aged:
    """A run that ended so many days before the instant, of a version of its own."""
    ended = BEFORE - dt.timedelta(days=days_before)
    run = Aged(
        run=name, status="done", behaviour_key=f"b-{name}", started_at=ended - dt.timedelta(hours=1), active_at=ended,
        ticks=10, drills=0, switchovers=(), in_present_epoch=False, is_held=False,
    )  # fmt: skip
    return replace(run, **changes)  # type: ignore[arg-type]


def test_only_what_is_older_goes_and_the_latest_only_if_said() -> None:
    """Of three old runs and a young one the three go, oldest first; without it the latest of the three stays."""
    old = [aged("c", 1), aged("a", 3), aged("b", 2)]
    assert [run.run for run in choose([*old, aged("young", -1)], BEFORE).going] == ["a", "b", "c"]
    kept = choose(old, BEFORE)
    assert [run.run for run in kept.going] == ["a", "b"]
    assert [(run.run, "--latest" in why) for run, why in kept.kept] == [("c", True)]
    assert [run.run for run in choose(old, BEFORE, with_latest=True).going] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"is_held": True}, "held"),
        ({"status": "running"}, "not ended"),
        ({"switchovers": (4,)}, "switchover to epoch 4"),
        ({"in_present_epoch": True}, "present epoch"),
    ],
)
def test_what_something_rests_on_stays_however_old(changes: dict[str, object], why: str) -> None:
    """A run that is held, has not ended, or that a switchover or the loop rests on is kept, and the reason named."""
    found = choose([aged("a", 100, **changes), aged("z", 1)], BEFORE, with_latest=True)
    assert [run.run for run in found.going] == ["z"]
    assert [(run.run, why in said) for run, said in found.kept] == [("a", True)]


def test_a_version_keeps_all_its_runs_or_none() -> None:
    """A bad old run stays beside a young one of its version: otherwise pruning would help READY."""
    version = {"behaviour_key": "same"}
    bad, young = aged("bad", 90, **version), aged("young", -1, **version)
    found = choose([bad, young, aged("other", 80)], BEFORE)
    assert [run.run for run in found.going] == ["other"]
    assert [(run.run, "same version as run young" in why) for run, why in found.kept] == [("bad", True)]
    both = choose([bad, replace(young, active_at=bad.active_at), aged("last", -2)], BEFORE)
    assert {run.run for run in both.going} == {"bad", "young"}


def test_an_interrupted_run_ages_too() -> None:
    """A run that was cut off and never gone on with is removed like one that ended."""
    assert [run.run for run in choose([aged("a", 9, status="interrupted"), aged("z", -1)], BEFORE).going] == ["a"]
