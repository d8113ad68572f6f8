"""Faults are never armed for what counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from async_tick import orchestrator
from digital_being import heavy_tick
from tickover.execution import ExecutionKey, Purpose, System
from tickover.faults import ArmedForControl


@pytest.mark.parametrize("purpose", [Purpose.CONTROL, Purpose.CANDIDATE])
def test_a_tick_that_counts_is_not_started_with_a_fault(purpose: Purpose, tmp_path: Path) -> None:
    """It is refused by name before any server is asked: there is none here."""
    key = ExecutionKey(run="r", tick=1, system=System.ASYNC, purpose=purpose)
    harness = {"faults": {"kind": "hang", "step": "action", "folder": str(tmp_path)}}
    with pytest.raises(ArmedForControl, match=str(key)):
        orchestrator.start(key, heavy_tick, state={}, harness=harness)
    assert not list(tmp_path.iterdir())
