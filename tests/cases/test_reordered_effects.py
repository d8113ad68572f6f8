"""Effects of one kind in another order: what no end state shows is found all the same."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from shadow.compare import Kind, judge
from shadow.diff import Nature
from shadow.inline import InlineTick, run_inline
from shadow.observation import Graph
from shadow.sides import from_legacy
from tests.cases import bookkeeping
from tickover import Workflow
from tickover.boundary.child import LegacyProcess
from tickover.boundary.observation import LegacyRequest
from tickover.execution import ExecutionKey, Purpose, System

BEGUN = dt.datetime(2026, 3, 1, 12, 0, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("workflow", "kind"),
    [(bookkeeping.workflow, Kind.MATCH), (bookkeeping.port(bookkeeping.post_reordered), Kind.MISMATCH)],
    ids=["as it is", "reordered"],
)
def test_reordered_effects_are_found(tmp_path: Path, workflow: Workflow, kind: Kind) -> None:
    """The credits before the debit: the step is named, and the order is what differs; the balances are the same."""
    graph = Graph.of(workflow)
    with LegacyProcess("tests.cases.bookkeeping:workflow", tmp_path / "books") as process:
        process.write_state({"balances": {}})
        for tick in range(3):
            seen = process.run_tick(LegacyRequest(run="cases", tick=tick, started_at=BEGUN))
            control = from_legacy(seen, workflow, Purpose.CONTROL, BEGUN)
            key = ExecutionKey(run="cases", tick=tick, system=System.ASYNC, purpose=Purpose.CANDIDATE)
            candidate = run_inline(
                workflow, key, state=seen.state_before, tick=InlineTick(draws=control.draws), started_at=BEGUN
            )
            assert candidate.state_after == control.state_after
            compared = judge(control, candidate, graph)
            assert compared.kind is kind
            if kind is Kind.MISMATCH:
                assert [(found.step, found.change.nature) for found in compared.differences] == [
                    ("post", Nature.ORDER)
                ]
