"""With no defect planted, a thousand ticks of the old system and its port give no mismatch."""

from __future__ import annotations

import copy
import datetime as dt
from collections import Counter
from pathlib import Path

import pytest

import digital_being
from digital_being.model_server import ModelServer, ModelSettings
from shadow.compare import Kind, judge, needs_reference
from shadow.inline import InlineTick, run_inline
from shadow.misses import find_misses
from shadow.observation import Graph
from shadow.sides import from_legacy
from tickover.boundary.child import LegacyProcess
from tickover.boundary.observation import LegacyRequest, Mode
from tickover.doors import client_of, forget_clients
from tickover.execution import ExecutionKey, Purpose, System

PORT = digital_being.heavy_tick
TICKS = 1000
BEGUN = dt.datetime(2026, 3, 1, 12, 0, tzinfo=dt.UTC)


@pytest.mark.timeout(300)
def test_a_thousand_ticks_without_a_mismatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Malformed and failing answers included: each tick is equal, or better where the old system gave up."""
    graph = Graph.of(PORT)
    kinds: Counter[Kind] = Counter()
    server = ModelServer(ModelSettings.quick(malformed_rate=0.05, error_rate=0.003)).start()
    monkeypatch.setenv("TICKOVER_MODEL_URL", server.url)
    forget_clients()
    try:
        with (
            LegacyProcess("digital_being:heavy_tick", tmp_path / "home", model_url=server.url) as process,
            LegacyProcess("digital_being:heavy_tick", tmp_path / "copy", model_url=server.url) as copied,
        ):
            process.write_state(PORT.start_state())
            for tick in range(TICKS):
                started_at = BEGUN + dt.timedelta(minutes=tick)
                seen = process.run_tick(LegacyRequest(run="thousand", tick=tick, started_at=started_at))
                control = from_legacy(seen, PORT, Purpose.CONTROL, started_at)
                inline = InlineTick(tape=seen.calls, draws=control.draws)
                key = ExecutionKey(run="thousand", tick=tick, system=System.ASYNC, purpose=Purpose.CANDIDATE)
                state = copy.deepcopy(seen.state_before)
                candidate = run_inline(PORT, key, state=state, tick=inline, started_at=started_at)
                tape = [*seen.calls, *inline.misses]
                misses = find_misses(tape, control, candidate, graph)
                reference, missed = None, False
                if needs_reference(control, candidate, graph, misses):
                    copied.write_state(seen.state_before)
                    again = copied.run_tick(
                        LegacyRequest(
                            run="thousand", tick=tick, mode=Mode.REFERENCE, tape=tuple(tape), started_at=started_at,
                            draws=control.draws,
                        )
                    )  # fmt: skip
                    reference = from_legacy(again, PORT, Purpose.REFERENCE, started_at)
                    missed = any(call.missed for call in again.calls)
                compared = judge(
                    control, candidate, graph, reference=reference, reference_missed=missed, misses=misses
                )
                assert compared.kind in (Kind.MATCH, Kind.IMPROVED, Kind.UNVERIFIED), (tick, compared.reason)
                kinds[compared.kind] += 1
        client_of(PORT, "model").close()
    finally:
        forget_clients()
        server.stop()
    assert kinds.total() == TICKS
    assert kinds[Kind.MATCH] > 850 and kinds[Kind.IMPROVED] > 0 and kinds[Kind.UNVERIFIED] < 50
