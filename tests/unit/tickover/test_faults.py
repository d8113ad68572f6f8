"""Fault points: nothing unless armed, once and no more, and never for a control."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tickover.boundary.observation import LegacyRequest, Mode
from tickover.boundary.session import Recorder
from tickover.errors import PortError
from tickover.execution import ExecutionKey, Purpose, System
from tickover.faults import (
    ArmedForControl,
    Fault,
    InjectedFault,
    armed,
    broken,
    decode_error,
    read_ledger,
)


def name(purpose: Purpose) -> str:
    return str(ExecutionKey(run="r", tick=1, system=System.ASYNC, purpose=purpose))


def fault(folder: Path, kind: str, **more: Any) -> Fault:
    return Fault(kind=kind, step="action", folder=str(folder), **more)


def events(folder: Path) -> list[str]:
    return [event["event"] for event in read_ledger(folder)]


@pytest.mark.parametrize("harness", [None, {}, {"tape": {}, "draws": None}, {"faults": None}])
def test_nothing_is_armed_without_a_fault(harness: dict[str, Any] | None) -> None:
    """An execution whose harness has no fault, or none at all, meets none, whatever its purpose."""
    assert armed(harness, name(Purpose.CONTROL)) is None


@pytest.mark.parametrize("purpose", [purpose for purpose in Purpose if purpose is not Purpose.DRILL])
def test_only_a_drill_can_be_armed(purpose: Purpose, tmp_path: Path) -> None:
    """A fault for a control, or for anything else than a drill, is refused by the execution's name."""
    harness = {"faults": {"kind": "hang", "step": "action", "folder": str(tmp_path)}}
    assert armed(harness, name(Purpose.DRILL)) is not None
    with pytest.raises(ArmedForControl, match=name(purpose)):
        armed(harness, name(purpose))


@pytest.mark.parametrize("execution_id", [None, "r/1/legacy/control/1", "nonsense"])
def test_the_old_system_is_not_armed_where_it_serves(execution_id: str | None, tmp_path: Path) -> None:
    """A request that records a control, or names no execution, cannot carry a fault."""
    faults = {"kind": "hang", "step": "action", "folder": str(tmp_path)}
    request = LegacyRequest(run="r", tick=1, mode=Mode.RECORD, execution_id=execution_id, faults=faults)
    with pytest.raises(ArmedForControl):
        Recorder(LegacyRequest.from_json(request.to_json()), tmp_path)


def test_a_transient_error_comes_once(tmp_path: Path) -> None:
    """The first attempt raises, the second does not, and other steps never do."""
    strikes = fault(tmp_path, "transient_error")
    with strikes.around("monologue"):
        pass
    with pytest.raises(InjectedFault), strikes.around("action"):
        raise AssertionError("the step ran")
    with strikes.around("action", 2):
        pass
    assert events(tmp_path) == ["entered", "entered", "struck", "entered"]


def test_a_permanent_error_comes_at_each_attempt(tmp_path: Path) -> None:
    """Three attempts, three errors, three strikes in the ledger."""
    for attempt in (1, 2, 3):
        with pytest.raises(InjectedFault), fault(tmp_path, "permanent_error").around("action", attempt):
            raise AssertionError("the step ran")
    assert events(tmp_path).count("struck") == 3


def test_the_step_runs_where_the_ledger_alone_is_kept(tmp_path: Path) -> None:
    """An undisturbed run notes what it does, and nothing strikes."""
    calm = Fault(kind="", step="", folder=str(tmp_path))
    with calm.around("action"):
        calm.committing("action")
    calm.started()
    assert calm.calling("action") is False and calm.hints("action") == 1
    assert events(tmp_path) == ["entered", "started"]


@pytest.mark.parametrize(("kind", "sent"), [("lost_hint", 0), ("duplicated_hint", 2)])
def test_hints_are_lost_and_doubled_once(kind: str, sent: int, tmp_path: Path) -> None:
    """The first hint of the step is sent so often; each later one, and those of other steps, once."""
    strikes = fault(tmp_path, kind)
    assert [strikes.hints("social"), strikes.hints("action"), strikes.hints("action")] == [1, sent, 1]


def test_an_outage_begins_with_its_step_and_refuses_every_call(tmp_path: Path) -> None:
    """Calls before the step are answered; from the step's first call on all are refused, until it is over."""
    outage = fault(tmp_path, "model_outage", length_s=60.0)
    assert outage.calling("monologue") is False
    for step in ("action", "monologue"):
        with pytest.raises(ConnectionRefusedError):
            outage.calling(step)
    assert fault(tmp_path, "model_outage", length_s=0.0).calling("action") is False


def test_a_broken_answer_is_no_answer(tmp_path: Path) -> None:
    """The first answer is to be broken, and what is left of it cannot be decoded."""
    breaks = fault(tmp_path, "malformed_answer")
    assert [breaks.calling("monologue"), breaks.calling("action"), breaks.calling("action")] == [False, True, False]
    answer = json.dumps({"content": "a long answer"})
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        json.loads(broken(answer))
    assert isinstance(decode_error(answer), PortError) and decode_error(answer).kind == "decode"


def test_an_unfinished_line_is_left_out(tmp_path: Path) -> None:
    """A process that was killed while it wrote leaves a ledger that can be read."""
    fault(tmp_path, "").note("entered", step="action")
    with (tmp_path / "ledger.jsonl").open("a", encoding="utf-8") as ledger:
        ledger.write('{"at": 1, "eve')
    assert events(tmp_path) == ["entered"]
    assert read_ledger(tmp_path / "nowhere") == []
