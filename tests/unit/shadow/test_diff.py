"""Differences of values: canonical bytes decide, DeepDiff explains."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from shadow.diff import Nature, changes, generalise, show
from tickover.canonical import canonical_bytes

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-2, 2) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(JSON, JSON)
def test_changes_are_empty_exactly_for_equal_bytes(left: object, right: object) -> None:
    """There is a change if and only if the canonical bytes differ, whatever DeepDiff thinks."""
    assert bool(changes(left, right)) == (canonical_bytes(left) != canonical_bytes(right))


def test_integer_and_float_differ_by_type() -> None:
    """1 and 1.0 are a retyped value, and are named so at their place."""
    (change,) = changes({"a": [{"b": 1}]}, {"a": [{"b": 1.0}]})
    assert (show(change.path), change.nature) == ("a[0].b", Nature.TYPE)


def test_negative_zero_is_never_called_equal() -> None:
    """DeepDiff sees no difference in the sign of zero; the bytes do, and the answer is "unexplained"."""
    (change,) = changes({"a": -0.0}, {"a": 0.0})
    assert change.nature is Nature.UNEXPLAINED


def test_missing_and_added_keys_are_named() -> None:
    """What only one side has is named with the side that lacks it."""
    found = {show(change.path): change.nature for change in changes({"a": 1, "b": 2}, {"b": 2, "c": 3})}
    assert found == {"a": Nature.MISSING, "c": Nature.ADDED}


def test_over_budget_is_unequal_not_explained() -> None:
    """Without time to explain, the answer is one change at the root, never equality."""
    left = {str(n): [n] * 3 for n in range(400)}
    right = {str(n): [n, n, n + 1] for n in range(400)}
    (change,) = changes(left, right, budget_s=0.0)
    assert (change.path, change.nature) == ((), Nature.UNEXPLAINED)


def test_over_size_is_unequal_not_explained() -> None:
    """A document too large to explain within any budget is unequal all the same."""
    (change,) = changes("a" * 50, "b" * 50, max_chars=10)
    assert change.nature is Nature.UNEXPLAINED


def test_indices_are_generalised() -> None:
    """Two places that differ in their index alone have one generalised path."""
    assert generalise(("a", 3, "b")) == generalise(("a", 11, "b")) == "a[*].b"
    assert show(("a", 3, "b")) == "a[3].b"
