"""Differences of effects: multisets per kind, order per key; late, missing and doubled ones by name."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from shadow.diff import Change, Nature, show
from shadow.effect_diff import effect_changes, has_default_key
from tests.unit.shadow.made import effects_of


def named(found: tuple[Change, ...]) -> list[tuple[str, str]]:
    return [(show(change.path), change.nature.value) for change in found]


def test_equal_effects_have_no_changes() -> None:
    """Effects of two kinds may be interleaved in any way; only the order within a kind is one."""
    left = effects_of([("act", "a", 1), ("act", "b", 1), ("act", "a", 2)])
    right = effects_of([("act", "b", 1), ("act", "a", 1), ("act", "a", 2)])
    assert effect_changes(left, right) == ()


def test_a_dropped_effect_is_missing() -> None:
    """Of three effects of a kind, the one that is not there is named, and no other."""
    left = effects_of([("act", "a", 1), ("act", "a", 2), ("act", "a", 3)])
    right = effects_of([("act", "a", 1), ("act", "a", 3)])
    (change,) = effect_changes(left, right)
    assert (change.nature, change.control) == (Nature.MISSING, 2)


def test_a_doubled_effect_is_duplicated() -> None:
    """An effect that the candidate has twice is a duplicate, not a new one."""
    left, right = effects_of([("act", "a", 1)]), effects_of([("act", "a", 1), ("act", "a", 1)])
    assert named(effect_changes(left, right)) == [("a", "duplicated")]


def test_reordered_effects_without_a_key_are_named() -> None:
    """Within a step, effects of one kind come one after the other; another order is a difference."""
    left = effects_of([("act", "a", 1), ("act", "a", 2)])
    right = effects_of([("act", "a", 2), ("act", "a", 1)])
    assert named(effect_changes(left, right)) == [("a", "order")]
    assert effect_changes(left, right, ordered=False) == ()


def test_order_counts_within_a_key_only() -> None:
    """Named effects may come in any order among keys, not within one."""
    left = effects_of([("act", "a", 1, "x"), ("act", "a", 2, "x"), ("act", "a", 9, "y")])
    among = effects_of([("act", "a", 9, "y"), ("act", "a", 1, "x"), ("act", "a", 2, "x")])
    within = effects_of([("act", "a", 2, "x"), ("act", "a", 1, "x"), ("act", "a", 9, "y")])
    assert effect_changes(left, among) == ()
    assert named(effect_changes(left, within)) == [("a", "order")]


def test_a_changed_payload_is_explained_by_path() -> None:
    """One effect that differs inside is a change at the place within its payload."""
    left, right = effects_of([("act", "a", {"t": [1, 2]})]), effects_of([("act", "a", {"t": [1, 3]})])
    assert named(effect_changes(left, right)) == [("a.t[1]", "value")]


def test_a_changed_key_is_a_difference() -> None:
    """The same payload under another name is another effect to a receiver outside."""
    left, right = effects_of([("act", "a", 1, "x")]), effects_of([("act", "a", 1, "y")])
    assert named(effect_changes(left, right)) == [("a.(key)", "value")]


def test_a_late_effect_is_named_late() -> None:
    """What the control did after it had given up is late, and neither missing nor new."""
    left = tuple(replace(item, late=True) for item in effects_of([("act", "a", 1)]))
    assert named(effect_changes(left, effects_of([("act", "a", 1)]))) == [("a", "late")]


def test_default_keys_are_known() -> None:
    """A key that only numbers an effect is told from one that someone chose."""
    (plain,) = effects_of([("act", "a", 1)])
    (chosen,) = effects_of([("act", "a", 1, "7/act/b/0")])
    assert has_default_key(plain.effect)
    assert not has_default_key(chosen.effect)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 3)), max_size=6), st.randoms())
def test_without_order_only_the_multiset_counts(items: list[tuple[str, int]], rng: object) -> None:
    """Shuffled effects are equal where the order says nothing, and one less is always found."""
    listed = [("act", kind, payload) for kind, payload in items]
    shuffled = list(listed)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert effect_changes(effects_of(listed), effects_of(shuffled), ordered=False) == ()
    if listed:
        assert effect_changes(effects_of(listed), effects_of(shuffled[1:]), ordered=False)
