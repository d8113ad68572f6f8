"""What a step that runs in parallel does not see of its sibling's write: a row, a file, a field of live state."""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest

from shadow.compare import Kind, judge
from shadow.inline import InlineTick, run_inline
from shadow.observation import Graph, Observation
from shadow.sides import from_legacy
from tests.cases import shop
from tickover.boundary.child import LegacyProcess
from tickover.boundary.observation import LegacyRequest
from tickover.execution import ExecutionKey, Purpose, System

BEGUN = dt.datetime(2026, 3, 1, 12, 0, tzinfo=dt.UTC)
TICKS = 6


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[tuple[Observation, Any]]]:
    """Ticks of the old system, each with the state that it began with."""
    with LegacyProcess("tests.cases.shop:workflow", tmp_path_factory.mktemp("shop") / "home") as process:
        process.write_state(shop.START)
        seen = [process.run_tick(LegacyRequest(run="cases", tick=tick, started_at=BEGUN)) for tick in range(TICKS)]
        yield [(from_legacy(each, shop.workflow, Purpose.CONTROL, BEGUN), each.state_before) for each in seen]


def followed(step: str | None, recorded: list[tuple[Observation, Any]]) -> list[Any]:
    """The comparisons of a port that forgot the sibling of this step, or (None) nothing."""
    workflow = shop.port() if step is None else shop.port(**{step: shop.UNSEEN[step]})
    found = []
    for control, state in recorded:
        key = ExecutionKey(run="cases", tick=control.tick, system=System.ASYNC, purpose=Purpose.CANDIDATE)
        tick = InlineTick(draws=control.draws)
        candidate = run_inline(workflow, key, state=copy.deepcopy(state), tick=tick, started_at=BEGUN)
        found.append(judge(control, candidate, Graph.of(workflow)))
    return found


def test_a_port_that_sees_its_siblings_matches(recorded: list[tuple[Observation, Any]]) -> None:
    """Row, file and live state as the sibling leaves them: every tick matches."""
    assert {compared.kind for compared in followed(None, recorded)} == {Kind.MATCH}


@pytest.mark.parametrize("step", shop.UNSEEN)
def test_an_unseen_write_is_one_finding_of_the_reader(
    recorded: list[tuple[Observation, Any]], step: str
) -> None:  # fmt: skip
    """On every tick the reader differs, nobody else does, and all have one cause."""
    compared = followed(step, recorded)
    assert {found.kind for found in compared} == {Kind.MISMATCH}
    assert {each.step for found in compared for each in found.attributions} == {step}
    assert len({each.signature for found in compared for each in found.attributions}) == 1
