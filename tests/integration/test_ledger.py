"""The ledger on the real engine: what it notes, in which order, and that it sees who presents which token."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import psycopg2
import pytest

from shadow.history import Checked, Expected, check
from shadow.ledger import History, Notebook, read_history, tell_story, unwatch, watch
from shadow.violations import OwnerConflict, StaleCommit, Violation, WrittenApart
from tests.chaos import noting_job
from tests.integration.engine_support import StartWorker, key
from tickover.execution import System

WORKLOAD = "tests.chaos.noting_job:job"


@pytest.fixture
def book(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Notebook:
    """A notebook that all processes of the test use; the database is watched."""
    monkeypatch.setenv(noting_job.NOTEBOOK, str(tmp_path / "notebook"))
    watch(database)
    return Notebook(tmp_path / "notebook")


@pytest.fixture
def connection(database: str) -> Iterator[Any]:
    """A connection in autocommit."""
    with closing(psycopg2.connect(database)) as opened:
        opened.autocommit = True
        yield opened


def ask(connection: Any, statement: str, *values: Any) -> list[Any]:
    with connection.cursor() as do:
        do.execute(statement, values)
        return list(do.fetchall()) if do.description else []


def checked(database: str, book: Notebook, ticks: int, **more: Any) -> Checked:
    expected = {"run": "test", "ticks": frozenset(range(ticks)), "effects": noting_job.STEP_EFFECTS,
                "receives": lambda kind: True, "legacy_notes": True, **more}  # fmt: skip
    return check(read_history(database, [book]), [Expected(**expected)])


def kinds(found: Checked) -> set[type[Violation]]:
    return {type(each) for each in found.violations}


def test_a_run_on_both_systems_keeps_every_promise(
    orchestrator: ModuleType, start_worker: StartWorker, database: str, book: Notebook, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Old system, new system, old system again, by the real loop and worker: nothing is broken, all is counted."""
    from async_tick.loop import Loop
    from async_tick.route import move, read_route
    from async_tick.serving import Server

    monkeypatch.setenv("TICKOVER_WORKLOAD", WORKLOAD)
    start_worker("", TICKOVER_WORKLOAD=WORKLOAD, pool="threads", concurrency=4)
    for to, ticks in ((None, 2), ("async", 3), ("legacy", 2)):
        if to is not None:
            move(read_route(), System(to), author="test", reason="test")
        server = Server(noting_job.job, WORKLOAD, "test", tmp_path / "test", time_scale=1.0,
                        env=noting_job.legacy_env(tmp_path / "test", 1.0, None))  # fmt: skip
        Loop(server, every_s=0).serve(
            ticks, lambda end, late: book.told("test", end.tick, end.owner.value, end.status)
        )
    found = checked(database, book, 7)
    assert found.sound, str(found)
    assert found.owners == {"legacy": 4, "async": 3}
    # The one step that applies to every third tick did to one of the three.
    assert (found.steps_done, found.delivered, found.repeated) == (19, 38, 0)
    # The same history with one promise too many is not sound: the check does look at this run.
    assert not checked(database, book, 8).sound


def test_commits_stand_in_the_order_in_which_they_were_made(database: str, book: Notebook) -> None:
    """Who wrote first and committed last stands last; what was rolled back is not there."""
    move = "UPDATE route SET epoch = epoch + 1"
    claim = (
        "INSERT INTO ticks (run, tick, owner, runner_token, epoch, execution_id) "
        "VALUES ('test', {}, 'legacy', gen_random_uuid(), 1, 'e')"
    )
    with closing(psycopg2.connect(database)) as slow, closing(psycopg2.connect(database)) as quick:
        with slow.cursor() as do:
            do.execute(claim.format(1))
        with quick, quick.cursor() as do:
            do.execute(move)
        slow.commit()
        with slow.cursor() as do:
            do.execute(claim.format(2))
        slow.rollback()
    changes = read_history(database).changes
    assert [(change.relation, change.operation) for change in changes] == [
        ("route", "found"), ("route", "update"), ("ticks", "insert"),
    ]  # fmt: skip
    found = check(History(changes=changes), [Expected(run="test", ticks=frozenset())])
    assert kinds(found) == {StaleCommit}


def test_commits_at_once_do_not_wait_for_each_other_for_ever(
    orchestrator: ModuleType, database: str, book: Notebook
) -> None:
    """Eight starters at once on a watched database: all ends, each execution stands in one commit."""
    starters = [
        threading.Thread(target=orchestrator.start, args=(key(tick), noting_job.job), kwargs={"state": {}})
        for tick in range(8)
    ]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join(60)
    changes = read_history(database).changes
    assert len({change.commit for change in changes if change.relation == "workflows"}) == 8
    for change in changes:
        if change.relation == "step_runs":
            assert change.new is not None
            begun = [each.commit for each in changes if each.relation == "workflows" and each.new is not None
                     and each.new["id"] == change.new["workflow_id"]]  # fmt: skip
            assert begun == [change.commit]


def _zombie_finishes(orchestrator: ModuleType, connection: Any) -> bool:
    """Whether a completion was accepted whose token had been taken."""
    from async_tick.claims import Claims
    from async_tick.connection import Connection

    claims = Claims(Connection("test"), 1, 30)
    orchestrator.start(key(), noting_job.job, state={})
    zombie = claims.claim(str(key()), "monologue", 60)
    ask(connection, "UPDATE step_runs SET lease_until = now() - interval '1 s' WHERE status = 'running'")
    ask(connection, "SELECT * FROM tickover_sweep(%s::integer[], 100, 5)", [])
    assert zombie is not None and claims.claim(str(key()), "monologue", 60) is not None
    return claims.complete(zombie, "done", result='"stale"').accepted


def test_a_fence_that_holds_leaves_no_stale_commit(
    orchestrator: ModuleType, database: str, book: Notebook, connection: Any
) -> None:
    """The zombie is refused, so the ledger has nothing of it."""
    assert not _zombie_finishes(orchestrator, connection)
    assert StaleCommit not in kinds(checked(database, book, 1, adopted=False))


def test_an_engine_without_its_fence_is_caught(
    orchestrator: ModuleType, database: str, book: Notebook, connection: Any
) -> None:
    """The same zombie commits where the fence was taken out: the ledger has its commit, and the token it lacked."""
    (definition,) = ask(
        connection, "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = 'tickover_complete'"
    )[0]
    assert definition.count(" AND s.token = p_token") == 1
    ask(connection, definition.replace(" AND s.token = p_token", ""))
    assert _zombie_finishes(orchestrator, connection)
    assert StaleCommit in kinds(checked(database, book, 1, adopted=False, effects=None))


def test_an_adoption_by_another_runner_is_caught(database: str, book: Notebook, connection: Any) -> None:
    """Whoever marks a tick as over without its runner's token is seen, also where the statement has another one."""
    from async_tick.adoption import take_charge

    take_charge("test", 0, "e", "00000000-0000-4000-8000-000000000001")
    ask(connection, "UPDATE ticks SET outcome = 'done', adopted_at = now() WHERE tick = 0 AND "
                    "'00000000-0000-4000-8000-000000000002' <> ''")  # fmt: skip
    assert {StaleCommit, WrittenApart, OwnerConflict} == kinds(checked(database, book, 1))


def test_nothing_is_noted_any_more_after_the_watch(database: str, book: Notebook, connection: Any) -> None:
    """`unwatch` leaves the engine's tables as they were."""
    unwatch(database)
    ask(connection, "UPDATE route SET epoch = epoch + 1")
    assert ask(connection, "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'note_history%%'") == [(0,)]
    assert ask(connection, "SELECT count(*) FROM pg_namespace WHERE nspname = 'tickover_history'") == [(0,)]
    watch(database)
    watch(database)
    assert [change.operation for change in read_history(database).changes] == ["found"]


def test_the_story_of_a_tick_says_who_did_what(
    orchestrator: ModuleType, database: str, book: Notebook, connection: Any
) -> None:
    """Claims, the sweep that took the step, and the statuses, in the order of the commits."""
    _zombie_finishes(orchestrator, connection)
    told = [line for line in tell_story(database, "test", 0) if "monologue" in line]
    assert [line.rpartition(": ")[2].split(",")[0] for line in told] == [
        "monologue None -> ready", "monologue ready -> running", "monologue running -> ready",
        "monologue ready -> running",
    ]  # fmt: skip
    assert "by tickover_sweep" in told[2] and "lease left -1." in told[2]
