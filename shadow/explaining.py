"""DeepDiff within a time budget."""

from __future__ import annotations

import time
from typing import Any, NoReturn

from deepdiff import DeepDiff
from deepdiff.operator import BaseOperator

from tickover.canonical import Json


class OutOfTime(Exception):
    """The budget of an explanation is used up."""


class _Clock(BaseOperator):
    """Looks at the clock at each level that DeepDiff visits, and stops it in the only way there is: by raising."""

    def __init__(self, until: float) -> None:
        super().__init__()
        self._until = until

    def match(self, level: Any) -> bool:
        if time.monotonic() > self._until:
            raise OutOfTime
        return False

    def give_up_diffing(self, level: Any, diff_instance: Any) -> NoReturn:
        raise AssertionError("never asked: match() is always false")


def explanation(control: Json, candidate: Json, budget_s: float, max_diffs: int) -> Any:
    """DeepDiff's tree of where two plain JSON values differ. Raises OutOfTime after `budget_s` seconds."""
    return DeepDiff(
        control,
        candidate,
        view="tree",
        verbose_level=2,
        custom_operators=[_Clock(time.monotonic() + budget_s)],
        max_diffs=max_diffs,
    )
