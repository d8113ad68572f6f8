"""The route on a real server: one owner for each tick, older epochs refused, holds that bar the way."""

from __future__ import annotations

import uuid
from contextlib import closing

import pytest

from async_tick import route
from async_tick.adoption import ROUTE_LOCK, Fenced, adopt_state, owner_of, take_charge
from tickover.errors import ConfigurationError
from tickover.execution import System
from tickover.ground.raw import connect_raw


@pytest.fixture(autouse=True)
def fresh(database: str) -> str:
    """A database of the test's own."""
    return database


def charge(tick: int) -> object:
    return take_charge("run", tick, f"run/{tick}/async/control/1", str(uuid.uuid4()))


def test_a_move_has_a_new_epoch_and_is_remembered() -> None:
    """There and back: two more epochs, each with author and reason."""
    there = route.move(route.read_route(), System.ASYNC, author="ada", reason="READY")
    back = route.move(there, System.LEGACY, author="eve", reason="too slow")
    assert (there.epoch, back.epoch) == (2, 3)
    assert [(each.owner, each.author, each.reason) for each in route.history()[1:]] == [
        (System.ASYNC, "ada", "READY"), (System.LEGACY, "eve", "too slow"),
    ]  # fmt: skip


def test_a_decision_that_was_overtaken_is_refused() -> None:
    """Who decided on an older route changes nothing."""
    seen = route.read_route()
    route.move(seen, System.ASYNC, author="ada", reason="first")
    with pytest.raises(route.RouteMoved, match="meanwhile"):
        route.move(seen, System.ASYNC, author="eve", reason="second")


def test_a_hold_bars_the_way_there_and_never_the_way_back() -> None:
    """Held twice, released twice; a rollback needs no release."""
    numbers = [route.hold("ada", "deploying"), route.hold("eve", "holiday")]
    with pytest.raises(route.Held, match="held by 2"):
        route.move(route.read_route(), System.ASYNC, author="x", reason="y")
    for number in numbers:
        route.release(number)
    with pytest.raises(ConfigurationError, match="no hold"):
        route.release(numbers[0])
    there = route.move(route.read_route(), System.ASYNC, author="x", reason="y")
    route.hold("ada", "again")
    assert route.move(there, System.LEGACY, author="x", reason="z").owner is System.LEGACY


def test_a_tick_of_an_older_epoch_is_refused_and_run_by_whoever_is_in_charge() -> None:
    """The new system's tick is fenced by a rollback: the old one owns it from then on, once."""
    there = route.move(route.read_route(), System.ASYNC, author="x", reason="y")
    old = charge(0)
    assert old.owner is System.ASYNC  # type: ignore[attr-defined]
    route.move(there, System.LEGACY, author="x", reason="z")
    with pytest.raises(Fenced):
        adopt_state(old, "done", {"by": "async"})  # type: ignore[arg-type]
    new = charge(0)
    assert new.owner is System.LEGACY  # type: ignore[attr-defined]
    adopt_state(new, "done", {"by": "legacy"})  # type: ignore[arg-type]
    with pytest.raises(Fenced):
        charge(0)
    assert owner_of("run", 0) is System.LEGACY


def test_what_the_old_system_began_stays_its_own() -> None:
    """A tick that the old system had begun before the move is still its own: what it did to the world is done."""
    first = charge(0)
    assert first.owner is System.LEGACY and not first.begun_before  # type: ignore[attr-defined]
    route.move(route.read_route(), System.ASYNC, author="x", reason="y")
    again = charge(0)
    assert again.owner is System.LEGACY and again.begun_before  # type: ignore[attr-defined]
    assert charge(1).owner is System.ASYNC  # type: ignore[attr-defined]


def test_a_move_waits_for_the_old_systems_tick() -> None:
    """While a loop holds the route's lock for a tick, a move waits, and gives up by name after its time."""
    with closing(connect_raw()) as connection, connection.cursor() as do:
        do.execute("SELECT pg_advisory_lock_shared(%s)", (ROUTE_LOCK,))
        connection.commit()
        with pytest.raises(route.NoBoundary, match="nothing was changed"):
            route.move(route.read_route(), System.ASYNC, author="x", reason="y", timeout_s=0.2)
        assert route.read_route().epoch == 1
    assert route.move(route.read_route(), System.ASYNC, author="x", reason="y").epoch == 2
