"""`serve --shadow` on real servers: one loop, the other system beside each tick, whoever is in charge."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.integration.beside_job import PLANS, job, read_state
from tests.integration.engine_support import StartWorker, until
from tests.integration.modules import imported_anew

WORKLOAD = "tests.integration.beside_job:job"


class Loops:
    """Loops of one run, one after the other, each with what runs beside it."""

    def __init__(self, home: Path) -> None:
        self.home, self.said = home, list[str]()

    def loop(self, *, shadow: bool = True, beside: Any = None) -> Any:
        """A loop that was not started yet."""
        from async_tick.beside import load
        from async_tick.guarding import Guard
        from async_tick.loop import Loop
        from async_tick.serving import Server

        if beside is None and shadow:
            beside = load(job, WORKLOAD, "run", self.said.append, every_s=0.0, home=self.home)
        guard = Guard("run", self.said.append)
        return Loop(Server(job, WORKLOAD, "run", self.home, time_scale=1.0, watch=guard, beside=beside), every_s=0)

    def serve(self, ticks: int, **how: Any) -> list[tuple[int, str, str]]:
        """Serve so many ticks, and what became of each."""
        ended: list[tuple[int, str, str]] = []
        self.loop(**how).serve(ticks, lambda end, late: ended.append((end.tick, end.owner.value, end.status)))
        return ended


@pytest.fixture
def loops(
    orchestrator: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Loops]:  # fmt: skip
    """Loops of the small job on a fresh database, and its plans."""
    monkeypatch.setenv("TICKOVER_WORKLOAD", WORKLOAD)
    monkeypatch.setenv("TICKOVER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv(PLANS, str(tmp_path / "plans"))
    (tmp_path / "plans").mkdir()
    from tickover.ground.settings import reset_settings

    reset_settings()
    # As the engine's modules are made anew for each test, so are those that import them.
    with imported_anew("shadow"):
        yield Loops(tmp_path / "home")


def plan(tmp_path: Path, what: str) -> None:
    (tmp_path / "plans" / what).touch()


def move(to: str, **budgets: Any) -> None:
    from async_tick.guardrails import Guardrails
    from async_tick.route import move as move_to
    from async_tick.route import read_route
    from tickover.execution import System

    guardrails = Guardrails(**budgets) if budgets else None
    move_to(read_route(), System(to), author="test", reason="test", guardrails=guardrails)


def rows(statement: str) -> list[tuple[Any, ...]]:
    from tickover.ground.raw import connect_raw

    with closing(connect_raw()) as connection, connection.cursor() as do:
        do.execute(statement)
        return list(do.fetchall())


def compared() -> list[tuple[str, int, str]]:
    """Epoch part of the run, tick, kind; in order."""
    found = rows("SELECT run, tick, kind FROM shadow_comparisons ORDER BY tick, run")
    return [(run.split("-")[1], tick, kind) for run, tick, kind in found]


def test_one_loop_there_and_back_compares_each_tick_once(
    loops: Loops, start_worker: StartWorker, tmp_path: Path
) -> None:  # fmt: skip
    """Old, new, old in charge: one run for each epoch, each tick in one of them, equal, with draws and state; the
    candidate's effects count nowhere."""
    start_worker("seven", pool="threads", TICKOVER_WORKLOAD=WORKLOAD)
    served = loops.serve(2)
    move("async")
    served += loops.serve(3)
    move("legacy")
    served += loops.serve(2)
    owners = ["legacy"] * 2 + ["async"] * 3 + ["legacy"] * 2
    assert served == [(tick, owner, "done") for tick, owner in enumerate(owners)]
    epochs = ["e1"] * 2 + ["e2"] * 3 + ["e3"] * 2
    assert compared() == [(epoch, tick, "match") for tick, epoch in enumerate(epochs)]
    assert [entry[0] for entry in read_state(loops.home)["entries"]] == list(range(7))
    assert rows("SELECT count(*) FROM shadow_ticks") == [(7,)]
    # The control's draws are in both: what was compared was not empty.
    assert len({entry[1] for entry in read_state(loops.home)["entries"]}) == 7
    statuses = rows("SELECT status FROM shadow_runs ORDER BY run")
    assert [status for (status,) in statuses] == ["done", "done", "interrupted"]
    assert loops.said == []


def test_a_run_that_cannot_be_read_is_left_alone(loops: Loops, start_worker: StartWorker) -> None:
    """One that another version stored keeps the loop from nothing: the run of the old epoch is ended as usual."""
    from tickover.ground.raw import connect_raw

    start_worker("seven", pool="threads", TICKOVER_WORKLOAD=WORKLOAD)
    loops.serve(1)
    move("async")
    with closing(connect_raw()) as connection, connection, connection.cursor() as do:
        do.execute(
            "INSERT INTO shadow_runs (run, status, plan, graph, behaviour_key, judgement_key, keys, holder) "
            "SELECT 'other', status, '{}', graph, behaviour_key, judgement_key, keys, holder FROM shadow_runs"
        )
    loops.serve(1)
    statuses = dict(rows("SELECT split_part(run, '-', 2), status FROM shadow_runs"))
    assert statuses == {"": "interrupted", "e1": "done", "e2": "interrupted"}


def test_a_move_under_a_running_loop_begins_another_run(loops: Loops, start_worker: StartWorker) -> None:
    """The loop is not stopped: the run of the old epoch follows what is left of it, and ends."""
    start_worker("seven", pool="threads", TICKOVER_WORKLOAD=WORKLOAD)
    beside: list[str] = []
    ended: list[int] = []

    def tell(end: Any, late: bool) -> None:
        ended.append(end.tick)
        beside.append(rows(f"SELECT beside FROM ticks WHERE tick = {end.tick}")[0][0].split("-")[1])
        if end.tick in (1, 3):
            move("async" if end.tick == 1 else "legacy")

    loops.loop().serve(6, tell)
    assert ended == list(range(6)) and beside == ["e1", "e1", "e2", "e2", "e3", "e3"]
    assert compared() == [(epoch, tick, "match") for tick, epoch in enumerate(beside)]
    assert [status for (status,) in rows("SELECT status FROM shadow_runs ORDER BY run")][:2] == ["done", "done"]


def test_a_mismatch_beside_sends_the_route_back(loops: Loops, start_worker: StartWorker, tmp_path: Path) -> None:
    """The new system is in charge and does something else in tick 1: the old one is in charge again by itself."""
    from async_tick.route import read_route

    start_worker("seven", pool="threads", TICKOVER_WORKLOAD=WORKLOAD, **{PLANS: str(tmp_path / "plans")})
    plan(tmp_path, "differ-1")
    move("async", mismatches=0)
    back: list[int] = []
    loop = loops.loop()

    def tell(end: Any, late: bool) -> None:
        if end.owner.value == "legacy":
            back.append(end.tick)
            loop.stop()

    loop.serve(500, tell)
    now = read_route()
    assert back and (now.owner.value, now.author) == ("legacy", "tickover guardrail")
    assert "1 mismatch in the first 60 ticks" in now.reason
    assert ("e2", 1, "mismatch") in compared()
    # What the new system wrote meanwhile, the tick that differs included, is what the old one went on from.
    entries = read_state(loops.home)["entries"]
    assert [entry[0] for entry in entries] == list(range(back[0] + 1)) and entries[1][1] == "another one"


def test_what_fails_beside_neither_stops_nor_changes_a_tick(
    loops: Loops, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store refuses everything, then each comparison fails: ticks go on, it is said once, and nothing is
    counted that was not compared. A loop whose store works again catches up with what is known."""
    import shadow.beside
    import shadow.beside_session
    from shadow.judging import Judging
    from shadow.store import Store

    def broken(*given: Any, **named: Any) -> None:
        raise RuntimeError("no space left")

    start_worker("seven", pool="threads", TICKOVER_WORKLOAD=WORKLOAD)
    monkeypatch.setattr(shadow.beside, "GIVE_UP_S", 0.0)
    monkeypatch.setattr(shadow.beside_session, "TRIES", 1)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "claim_tick", broken)
        assert [status for _, _, status in loops.serve(2)] == ["done"] * 2
    assert compared() == [] and "no space left" in loops.said[0]
    with monkeypatch.context() as patch:
        patch.setattr(Judging, "compare", broken)
        assert [status for _, _, status in loops.serve(2)] == ["done"] * 2
    kinds = {tick: kind for _, tick, kind in compared()}
    assert kinds == dict.fromkeys(range(4), "not_compared")
    assert [status for _, _, status in loops.serve(1)] == ["done"]
    assert compared()[4] == ("e1", 4, "match")
    reasons = rows("SELECT reason FROM shadow_comparisons ORDER BY tick")
    assert "kept" in reasons[0][0] and "the harness failed 1 times" in reasons[2][0]


def test_a_database_that_drops_all_sessions_costs_no_tick_its_comparison(
    loops: Loops, start_worker: StartWorker
) -> None:  # fmt: skip
    """Under ticks of either system all sessions are cut off: the loop goes on, and so does what runs beside."""
    start_worker("seven", pool="threads", TICKOVER_WORKLOAD=WORKLOAD)
    cut = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    loop = loops.loop()

    def tell(end: Any, late: bool) -> None:
        if end.tick in (2, 6):
            rows(cut)
        if end.tick == 4:
            move("async")

    loop.serve(9, tell)
    found = rows("SELECT tick, owner, outcome FROM ticks ORDER BY tick")
    assert [tick for tick, _, _ in found] == list(range(9))
    kinds = {tick: kind for _, tick, kind in compared()}
    # A candidate whose outcome could not be asked for is not compared; what is compared is equal.
    assert list(kinds) == list(range(9)) and set(kinds.values()) <= {"match", "not_compared"}
    assert sum(kind == "match" for kind in kinds.values()) >= 5
    assert all(outcome == "done" or kinds[tick] == "not_compared" for tick, _, outcome in found)


def test_a_candidate_that_hangs_delays_nothing_and_costs_no_more_and_more(
    loops: Loops, start_worker: StartWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old system hangs on its copies: ticks go on, and beyond a bound they are recorded as not compared."""
    import shadow.beside_session

    start_worker("seven", pool="threads", TICKOVER_WORKLOAD=WORKLOAD)
    monkeypatch.setattr(shadow.beside_session, "BACKLOG", 2)
    move("async")
    plan(tmp_path, "hang")
    loop = loops.loop()
    ended: list[int] = []

    def tell(end: Any, late: bool) -> None:
        ended.append(end.tick)
        if len(ended) == 12:
            until(lambda: len(compared()) >= 5)
            loop.stop()

    loop.serve(None, tell)
    assert ended == list(range(12))
    assert {kind for _, _, kind in compared()} == {"not_compared"}
    assert "2 ticks waited for the candidate already" in rows("SELECT reason FROM shadow_comparisons")[0][0]
    # What was cut off is no failure of the candidate: the next loop follows it from the beginning.
    (tmp_path / "plans" / "hang").unlink()
    loops.serve(1)
    kinds = [kind for _, _, kind in compared()]
    assert len(kinds) == 13 and set(kinds) == {"not_compared", "match"} and kinds.count("match") >= 4


def test_a_tick_that_began_without_a_run_beside_goes_on_without(
    loops: Loops, start_worker: StartWorker, tmp_path: Path
) -> None:  # fmt: skip
    """A loop is stopped under the new system's tick and started with --shadow: that tick ends as it began, the next
    one is compared. The same the other way round."""
    move("async")
    for shadow in (False, True):
        loop = loops.loop(shadow=shadow)
        begun = len(rows("SELECT FROM workflows"))

        def watch(connection: Any, epoch: int, running_s: float | None, loop: Any = loop, begun: int = begun) -> None:
            if running_s is not None and len(rows("SELECT FROM workflows")) > begun:
                loop.stop()

        loop.server.watch = watch
        assert loop.serve(None, lambda end, late: None) == 0
        worker = start_worker("seven", pool="threads", TICKOVER_WORKLOAD=WORKLOAD)
        assert [status for _, _, status in loops.serve(2, shadow=not shadow)] == ["done", "done"]
        worker.stop()
    beside = [row[0] and row[0].split("-")[1] for row in rows("SELECT beside FROM ticks ORDER BY tick")]
    assert beside == [None, "e2", "e2", None]
    assert compared() == [("e2", 1, "match")]


def test_a_tick_that_a_rollback_cuts_off_is_named_in_its_run(
    loops: Loops, start_worker: StartWorker
) -> None:  # fmt: skip
    """No worker is there: the new system's tick is fenced and run by the old one, under the next epoch; both runs
    know it, the first one as a tick that counted for nothing."""
    move("async", unserved_s=0.3)
    loop = loops.loop()
    loop.serve(1, lambda end, late: loop.stop())
    start_worker("seven", pool="threads", TICKOVER_WORKLOAD=WORKLOAD)
    loops.serve(1)
    found = rows("SELECT run, tick, kind, reason FROM shadow_comparisons ORDER BY tick, run")
    assert [(run.split("-")[1], tick, kind) for run, tick, kind, _ in found] == [
        ("e2", 0, "not_compared"), ("e3", 0, "match"), ("e3", 1, "match"),
    ]  # fmt: skip
    assert "the route moved" in found[0][3]


def test_other_rules_begin_another_run(loops: Loops, tmp_path: Path) -> None:
    """The name of a run depends on what its evidence depends on."""
    from async_tick.beside import load
    from tickover.execution import System

    rules = tmp_path / "rules.toml"
    rules.write_text(
        '[[rule]]\nname = "n"\naction = "ignore"\nstep = "mark"\npath = "[1]"\nreason = "x"\nowner = "y"\n'
        "expires = 2999-01-01\n"
    )
    say: Callable[[str], None] = loops.said.append
    names = set()
    for given in ({}, {}, {"noise": 0.5}, {"every_s": 9.0}, {"rules_file": str(rules)}):
        beside = load(job, WORKLOAD, "run", say, **{"every_s": 0.0, **given})
        names.add((beside.name(1, System.LEGACY), beside.name(1, System.ASYNC)))
        beside.close(5.0)
    assert len(names) == 4
    assert all(old.startswith("run-e1-") and old != new for old, new in names)


def test_without_the_package_the_command_says_so(loops: Loops, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished migration has deleted what runs beside."""
    from async_tick import beside
    from tickover.errors import ConfigurationError

    monkeypatch.setattr(beside, "MAKER", "shadow_that_is_gone.beside")
    with pytest.raises(ConfigurationError, match="not here any more"):
        loops.loop()
