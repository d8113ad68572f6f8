"""Draws: derived from run, tick and step alone, or replayed from a record."""

from __future__ import annotations

import datetime as dt
import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tickover.draws import DerivedDraws, RecordedDraws, seed_of

IDENTITIES = st.tuples(st.text(), st.integers(0, 10**9), st.text())

AT = dt.datetime(2030, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC)

SEED = 116129840252
RANDOM = 0.099100022625907
IDENTIFIER = "3220f23a-8d9d-4b7d-8e9a-18c720f84288"

CALLS: list[Any] = [
    lambda r: r.random(),
    lambda r: r.randint(1, 1000),
    lambda r: r.choice("abcdef"),
    lambda r: r.sample(range(100), 4),
    lambda r: r.gauss(0, 1),
    lambda r: r.choices([1, 2, 3], [5, 1, 1], k=2),
    lambda r: r.getrandbits(40),
    lambda r: r.uniform(-1, 1),
    lambda r: r.triangular(),
    lambda r: r.randbytes(5),
]


class Recording(random.Random):
    """Notes the primitives, as an adapter does."""

    def __init__(self, seed: int) -> None:
        self.record: list[list[Any]] = []
        super().__init__(seed)

    def random(self) -> float:
        value = super().random()
        self.record.append(["random", None, value])
        return value

    def getrandbits(self, k: int, /) -> int:
        value = super().getrandbits(k)
        self.record.append(["getrandbits", k, value])
        return value


@given(st.lists(st.sampled_from(CALLS), max_size=12), st.integers())
def test_equal_calls_on_a_record_give_equal_values(calls: list[Any], seed: int) -> None:
    """Whatever sequence of methods the control called, the candidate that calls the same draws the same."""
    control = Recording(seed)
    drawn = [call(control) for call in calls]
    draws = RecordedDraws({"random": control.record}, DerivedDraws("r", 0, "s"))
    assert [call(draws.random) for call in calls] == drawn
    assert draws.diverged == set()


@given(st.lists(st.sampled_from(CALLS), min_size=1, max_size=6))
def test_a_draw_beyond_the_record_is_derived_and_named(calls: list[Any]) -> None:
    """Without a record, the values are the derived ones, and the door is named as diverged."""
    draws = RecordedDraws({}, DerivedDraws("r", 1, "s"))
    derived = DerivedDraws("r", 1, "s")
    assert [call(draws.random) for call in calls] == [call(derived.random) for call in calls]
    assert draws.diverged == {"random"}


def test_another_call_than_the_recorded_one_leaves_the_record() -> None:
    """From the first call that differs on, the record is not used: its values would mean something else."""
    draws = RecordedDraws({"random": [["random", None, 0.5], ["getrandbits", 8, 7]]}, DerivedDraws("r", 1, "s"))
    assert draws.random.random() == 0.5
    assert draws.random.getrandbits(9) != 7
    assert draws.diverged == {"random"}
    assert draws.random.random() != 0.5


def test_recorded_instants_and_identifiers_come_in_order() -> None:
    """Instants are given in order, the last one again when they are used up; identifiers are derived then."""
    identifier = "12345678-1234-4234-8234-123456789abc"
    record = {"now": [AT.isoformat(), (AT + dt.timedelta(seconds=1)).isoformat()], "ids": [identifier]}
    draws = RecordedDraws(record, DerivedDraws("r", 1, "s"))
    assert [draws.now() for _ in range(3)] == [AT, AT + dt.timedelta(seconds=1), AT + dt.timedelta(seconds=1)]
    assert str(draws.new_id()) == identifier
    assert draws.diverged == set()
    assert draws.new_id() == DerivedDraws("r", 1, "s").new_id()
    assert draws.diverged == {"ids"}
    empty = RecordedDraws({}, DerivedDraws("r", 1, "s", AT))
    assert empty.now() == AT
    assert empty.diverged == {"now"}


@given(IDENTITIES, IDENTITIES)
def test_derived_draws_depend_on_run_tick_and_step_alone(one: Any, other: Any) -> None:
    """Equal identities draw equal values; different ones do not."""
    values = []
    for identity in (one, one, other):
        draws = DerivedDraws(*identity)
        values.append((draws.random.random(), draws.new_id(), draws.new_id()))
    assert values[0] == values[1]
    assert values[0][1] != values[0][2]
    if "\x1f" not in "".join((one[0], one[2], other[0], other[2])):
        assert (values[0] == values[2]) is (one == other)


def test_the_derivation_never_changes() -> None:
    """Stored runs are replayed by later versions: these values must stay."""
    draws = DerivedDraws("run", 7, "action")
    assert seed_of("run", 7, "action") % 10**12 == SEED
    assert draws.random.random() == RANDOM
    assert str(draws.new_id()) == IDENTIFIER
    assert draws.now() == dt.datetime(2000, 1, 1, 0, 0, 7, tzinfo=dt.UTC)


def test_identifiers_are_of_version_4() -> None:
    """A derived identifier is a well-formed random UUID."""
    identifier = DerivedDraws("r", 1, "s").new_id()
    assert (identifier.version, identifier.variant) == (4, "specified in RFC 4122")


def test_the_instant_of_the_tick_is_given() -> None:
    """`started_at` is what the clock shows, again and again."""
    draws = DerivedDraws("r", 1, "s", AT)
    assert {draws.now(), draws.now()} == {AT}
