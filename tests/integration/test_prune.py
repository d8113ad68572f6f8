"""Runs removed from a real database: all of theirs, and nothing else."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from reports.verdict_store import VerdictStore
from reports.verify import RunPruned, verify_run
from shadow.compare import Kind
from shadow.drill_store import DrillStore
from shadow.faults import Shot
from shadow.noise_floor import NoiseRow
from shadow.noise_store import save_noise
from shadow.prune import choose, remove
from shadow.prune_store import PruneStore
from shadow.store import Store, UnknownRun
from tests.integration.report_samples import TickSample, make_run
from tickover.execution import ExecutionKey, Purpose, System
from tickover.ground.database import engine
from tickover.tape import TapeEntry

NOW = dt.datetime.now(dt.UTC)
OLD, KEPT = "old", "young"
# Tables that name a run, and keep it when it goes.
STAY = {"verdicts"}


@pytest.fixture
def store(database: str) -> Store:
    """Two runs with rows in each table that names a run, the older one 60 days ago."""
    store = Store(engine(database))
    for name in (OLD, KEPT):
        make_run(store, name, [TickSample(kind=Kind.MISMATCH, differs="act")] * 3, time_scale=0.01)
        key = ExecutionKey(run=name, tick=1, system=System.ASYNC, purpose=Purpose.CANDIDATE)
        store.set_start(name, 1, {"n": name}, None)
        store.keep_late(key, 2, {"late": True})
        store.keep_calls([_call(name)])
        save_noise(store.engine, name, 1, [NoiseRow(step="act", old_differs=True, new_differs=False, places=())])
        drills = DrillStore(store.engine)
        drills.create(f"drill-{name}", name, f"b-{name}", "quick", [SHOT], 0.01, is_evidence=True)
        drills.begin_trial(f"drill-{name}", 0, SHOT, 1, System.LEGACY)
        _execution(store, key)
        with store.engine.begin() as connection:
            connection.execute(
                text(
                    "INSERT INTO drill_sides (drill, trial, system, outcome, recovered, lost, doubled, document) "
                    "VALUES (:drill, 0, 'async', 'done', true, 0, 0, '{}')"
                ),
                {"drill": f"drill-{name}"},
            )
            connection.execute(
                text(
                    "INSERT INTO verdicts (run, behaviour_key, judgement_key, policy_name, status, inputs, "
                    "inputs_digest, outcome) VALUES (:run, 'b', 'j', 'scaled', 'NOT_READY', '{}', '', '{}')"
                ),
                {"run": name},
            )
    _age(store, OLD, 60)
    return store


SHOT = Shot(kind="lost_hint", steps=("act",), seed=1)


def _call(run: str) -> TapeEntry:
    return TapeEntry(
        run=run, tick=1, step="act", port="p", method="m", request={}, request_hash="h", occurrence=0, attempt=1,
        answer=1, error=None, latency_ms=1.0, recorded_by="legacy",
    )  # fmt: skip


def _execution(store: Store, key: ExecutionKey) -> None:
    """An execution as the engine keeps it, with a step, a checkpoint and an effect."""
    with store.engine.begin() as connection:
        number = connection.execute(
            text(
                "INSERT INTO workflows (execution_id, run, tick, system, purpose, pass, workflow, version, input, "
                "input_hash, state, started_at, time_scale, status, created_at) VALUES (:id, :run, :tick, 'async', "
                "'candidate', 1, 'w', '1', 'null', '', '{}', now(), 1, 'done', now()) RETURNING id"
            ),
            {"id": str(key), "run": key.run, "tick": key.tick},
        ).scalar_one()
        for statement in (
            "INSERT INTO step_runs (workflow_id, step, position, queue, critical, needs, phase, status, attempt, "
            "recoveries, hints) VALUES (:n, 'act', 0, 'critical', true, '{}', 'run', 'done', 1, 0, 1)",
            "INSERT INTO workflow_checkpoints (workflow_id, stage, tick_number, state, created_at) "
            "VALUES (:n, 'act', 1, '1', now())",
            "INSERT INTO effects (workflow_id, position, number, step, kind, key, payload) "
            "VALUES (:n, 0, 0, 'act', 'k', 'k', '1')",
        ):
            connection.execute(text(statement), {"n": number})


def _age(store: Store, run: str, days: int) -> None:
    with store.engine.begin() as connection:
        for statement in (
            "UPDATE shadow_runs SET started_at = started_at - :ago, finished_at = finished_at - :ago "
            "WHERE run = :run",
            "UPDATE shadow_ticks SET claimed_at = claimed_at - :ago WHERE run = :run",
            "UPDATE shadow_comparisons SET created_at = created_at - :ago WHERE run = :run",
            "UPDATE drills SET started_at = started_at - :ago WHERE run = :run",
        ):
            connection.execute(text(statement), {"run": run, "ago": dt.timedelta(days=days)})


def _rows(store: Store, run: str) -> dict[str, int]:
    """Table -> rows that name the run, of all tables that have such a column, and of those below them."""
    with store.engine.connect() as connection:
        tables = connection.execute(
            text(
                "SELECT table_name FROM information_schema.columns "
                "WHERE table_schema = 'public' AND column_name = 'run' ORDER BY table_name"
            )
        ).scalars()
        found = {
            table: connection.execute(
                text(f"SELECT count(*) FROM {table} WHERE run = :run"), {"run": run}
            ).scalar_one()
            for table in tables
        }
        for table in ("step_runs", "workflow_checkpoints", "effects"):
            found[table] = connection.execute(
                text(f"SELECT count(*) FROM {table} JOIN workflows w ON w.id = workflow_id WHERE w.run = :run"),
                {"run": run},
            ).scalar_one()
        for table in ("drill_trials", "drill_sides"):
            query = f"SELECT count(*) FROM {table} WHERE drill = :drill"
            found[table] = connection.execute(text(query), {"drill": f"drill-{run}"}).scalar_one()
        return found


# Tables of the loop, which name its run and not one of shadow's.
LOOP = {"ticks", "states", "outbox", "switchovers"}


def test_a_removed_run_leaves_no_row_and_the_others_keep_theirs(store: Store, tmp_path: Path) -> None:
    """Each table that names a run had rows of both; afterwards only verdicts have some of the removed one, and the
    other has all it had. Its copies of the old system's home are gone, the other's are there."""
    before = _rows(store, OLD), _rows(store, KEPT)
    assert {table for table, count in before[0].items() if not count} == LOOP
    for name in (OLD, KEPT):
        (tmp_path / name / "control").mkdir(parents=True)
    assert _prune(store, tmp_path) == [OLD]
    after = _rows(store, OLD)
    assert {table for table, count in after.items() if count} == STAY
    assert _rows(store, KEPT) == before[1]
    assert [path.name for path in tmp_path.iterdir()] == [KEPT]
    with store.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM step_runs")).scalar_one() == 1
    assert _prune(store, tmp_path) == []


def test_a_run_that_is_held_or_taken_up_meanwhile_stays(store: Store, tmp_path: Path) -> None:
    """Held by a runner it is not chosen; held after it was chosen it is left alone, with all its rows."""
    chosen = choose(PruneStore(store.engine).runs(), NOW - dt.timedelta(days=30))
    assert [run.run for run in chosen.going] == [OLD]
    before = _rows(store, OLD)
    with store.hold(OLD, "another"):
        assert _prune(store, tmp_path) == []
        assert remove(store, [OLD], NOW - dt.timedelta(days=30), tmp_path, with_latest=False) == []
    assert _rows(store, OLD) == before


def test_activity_since_the_list_was_shown_saves_a_run(store: Store, tmp_path: Path) -> None:
    """Resumed and ended between the list and the answer, a run is young again and stays."""
    store.set_status(OLD, "done")
    assert remove(store, [OLD], NOW - dt.timedelta(days=30), tmp_path, with_latest=False) == []
    assert sum(_rows(store, OLD).values()) > 0


def test_a_loop_that_uses_the_name_of_a_run_keeps_its_executions(store: Store, tmp_path: Path) -> None:
    """An execution that a tick of the loop rests on is the loop's, whatever its run is called."""
    key = ExecutionKey(run=OLD, tick=1, system=System.ASYNC, purpose=Purpose.CANDIDATE)
    with store.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO ticks (run, tick, owner, runner_token, epoch, execution_id) "
                "VALUES (:run, 1, 'async', gen_random_uuid(), 1, :id)"
            ),
            {"run": OLD, "id": str(key)},
        )
    assert _prune(store, tmp_path) == [OLD]
    assert {table for table, count in _rows(store, OLD).items() if count} >= {"ticks", "workflows", "step_runs"}


def test_a_verdict_of_a_removed_run_says_why_it_cannot_be_verified(store: Store, tmp_path: Path) -> None:
    """Verifying names the verdict and says that its run was removed; of another name it says that there is no run."""
    from reports.build import build
    from reports.policy import load_policy

    build(store, OLD, load_policy("scaled"), "scaled", now=NOW)
    number = VerdictStore(store.engine).latest(OLD).number
    assert _prune(store, tmp_path) == [OLD]
    with pytest.raises(RunPruned, match=rf"verdict {number} of run {OLD} .* the run was removed"):
        verify_run(store, OLD)
    with pytest.raises(UnknownRun, match="there is no run 'never'"):
        verify_run(store, "never")


def _prune(store: Store, root: Path, **options: Any) -> list[str]:
    before = NOW - dt.timedelta(days=30)
    chosen = choose(PruneStore(store.engine).runs(), before, **options)
    return remove(store, [run.run for run in chosen.going], before, root, with_latest=False)
