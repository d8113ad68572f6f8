"""Guardrails as values: what breaks them, and what they are written as."""

from __future__ import annotations

import pytest

from async_tick.guardrails import Guardrails, Usage, broken, lines
from tickover.errors import ConfigurationError

ALL = Guardrails(window_ticks=10, failed=1, lost=2, slow=3, mismatches=0, hung_s=60, unserved_s=5)


@pytest.mark.parametrize(
    ("usage", "said"),
    [
        (Usage(ticks=3, failed=2), "2 failed ticks in the first 10 ticks of the new system, and 1 allowed"),
        (Usage(ticks=3, lost=3), "3 lost intervals"),
        (Usage(ticks=3, slow=4), "4 slow ticks"),
        (Usage(ticks=10, mismatches=1), "1 mismatch in the first 10 ticks"),
        (Usage(ticks=3, running_s=61.0), "a tick has not ended after 61 s, and 60 s are allowed"),
        (Usage(ticks=3, running_s=6.0, unserved_s=5.5), "no worker has been there for 6 s"),
    ],
)
def test_one_more_than_a_budget_breaks_it(usage: Usage, said: str) -> None:
    """Each guardrail breaks by itself, and says what was used and what was allowed."""
    assert said in (broken(ALL, usage) or "")


def test_a_budget_that_is_used_up_still_holds() -> None:
    """As much as is allowed is allowed."""
    assert broken(ALL, Usage(ticks=9, failed=1, lost=2, slow=3, running_s=60.0, unserved_s=5.0)) is None


def test_a_guardrail_that_is_not_set_never_breaks() -> None:
    """None switches a guardrail off."""
    none = Guardrails(failed=None, lost=None, slow=None, mismatches=None, hung_s=None, unserved_s=None)
    worst = Usage(failed=9, lost=9, slow=9, mismatches=9, running_s=1e6, unserved_s=1e6)
    assert broken(none, worst) is None and lines(none, worst) == []


def test_a_tick_beyond_the_window_is_not_watched() -> None:
    """When the window's ticks have ended, one that hangs is no matter of the guardrails."""
    assert broken(ALL, Usage(ticks=10, running_s=1e6, unserved_s=1e6)) is None


def test_guardrails_survive_json() -> None:
    """What is written is what is read, and what is left out has its default."""
    given = Guardrails(window_ticks=7, latency_factor=2.5, baseline_ms=120.5, lost=None)
    assert Guardrails.from_json(given.to_json()) == given
    assert Guardrails.from_json({"failed": 0}) == Guardrails(failed=0)
    assert given.limit_ms == 2.5 * 120.5 and Guardrails().limit_ms is None


@pytest.mark.parametrize(
    "document", [{"failures": 1}, {"failed": -1}, {"window_ticks": 0}, {"window_ticks": None}, {"failed": 1.5},
                 {"hung_s": 0}, {"hung_s": float("inf")}, {"slow": True}, {"slow": "2"}],
)  # fmt: skip
def test_what_is_no_guardrail_is_refused_by_name(document: dict[str, object]) -> None:
    """An unknown name, and a value that no budget can have."""
    with pytest.raises(ConfigurationError, match=next(iter(document))):
        Guardrails.from_json(document)
