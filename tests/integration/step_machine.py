"""A machine that drives the engine's functions in PostgreSQL and the model of them through the same random life."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from async_tick import sql
from async_tick.claims import Claim, Claims
from async_tick.connection import Connection
from tests.integration.step_model import LEGAL, ExecutionModel, StepModel
from tickover.effects import Effect

OWNERS = (11, 12, 13)
HEALTHY, BYSTANDER = 14, 15
# Fewer than the sweeper's, so that random lives reach it.
MAX_RECOVERIES = 1
_numbers = itertools.count()

_ROWS = """
SELECT s.step, s.status, s.phase, s.attempt, s.recoveries, s.token::text, c.state,
       coalesce((SELECT array_agg(e.key ORDER BY e.number) FROM effects e
                 WHERE e.workflow_id = s.workflow_id AND e.step = s.step), '{}'), w.status
FROM step_runs s JOIN workflows w ON w.id = s.workflow_id
LEFT JOIN workflow_checkpoints c ON c.workflow_id = s.workflow_id AND c.stage = s.step
WHERE s.workflow_id = %s ORDER BY s.position
"""
# Every change of status is watched where it happens: what one statement does and undoes shows too.
_WATCH = f"""
CREATE FUNCTION watch_status() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF OLD.status <> NEW.status AND (OLD.status, NEW.status) NOT IN ({", ".join(map(str, sorted(LEGAL)))}) THEN
        RAISE EXCEPTION 'step % went from % to %', OLD.step, OLD.status, NEW.status;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER watch_status BEFORE UPDATE ON step_runs FOR EACH ROW EXECUTE FUNCTION watch_status();
"""


class Life(RuleBasedStateMachine):
    """One execution of a random graph, and a bystander that nothing may touch."""

    connection: Any
    claims: dict[int, Claims]

    @initialize(
        needs=st.lists(st.sets(st.integers(0, 4), max_size=3), min_size=1, max_size=6),
        optional=st.sets(st.integers(0, 5)),
    )
    def begin(self, needs: list[set[int]], optional: set[int]) -> None:
        """A random graph; a fixed one beside it, with a step that runs and one that is ready."""
        graph = {f"s{at}": {f"s{need}" for need in wanted if need < at} for at, wanted in enumerate(needs)}
        self.model = ExecutionModel(graph, {f"s{at}": at not in optional for at in range(len(needs))})
        self.name = f"run/{next(_numbers)}/async/control/1"
        assert self._start() == (True, "hash", self.model.claimable())
        self.id = self.ask("SELECT id FROM workflows WHERE execution_id = %s", self.name)[0][0]
        self.held: dict[str, Claim] = {}  # token -> what its owner believes to hold
        self.other = self._bystander()
        self.other_rows = self._rows(self.other)

    def ask(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of a statement."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement, values)
            return list(cursor.fetchall()) if cursor.description else []

    def _start(self) -> tuple[Any, ...]:
        steps = [
            {"step": name, "position": at, "queue": "q", "critical": step.critical, "needs": sorted(step.needs)}
            for at, (name, step) in enumerate(self.model.steps.items())
        ]
        values = (self.name, "run", 1, "async", "control", 1, "w", "1", "null", "hash", "{}", None)
        return self.ask(sql.START, *values, "2026-01-01T00:00:00Z", 1.0, json.dumps(steps))[0]

    def _bystander(self) -> int:
        values = (f"{self.name}/bystander", "run", 1, "async", "control", 2, "w", "1", "null", "hash", "{}", None)
        steps = [
            {"step": f"s{at}", "position": at, "queue": "q", "critical": True, "needs": wanted}
            for at, wanted in enumerate([[], [], ["s0", "s1"]])
        ]
        self.ask(sql.START, *values, "2026-01-01T00:00:00Z", 1.0, json.dumps(steps))
        claim = self.claims[BYSTANDER].claim(values[0], "s0", 3600.0)
        assert claim is not None
        return claim.ground.workflow_id

    def _took(self, claim: Claim, owner: int) -> None:
        before = self.model.steps[claim.step].failure
        step = self.model.take(claim.step, claim.token, owner)
        self.held[claim.token] = claim
        assert (claim.attempt, claim.phase, claim.failure) == (step.attempt, step.phase, before)
        done = {need for need in step.needs if self.model.steps[need].status == "done"}
        assert claim.results == {need: json.loads(self.model.steps[need].result or "") for need in done}
        assert claim.absent.keys() == step.needs - done

    @rule(data=st.data(), owner=st.sampled_from(OWNERS))
    def hint(self, data: st.DataObject, owner: int) -> None:
        """A hint arrives, once or again, for any step."""
        self.claim(data.draw(st.sampled_from(sorted(self.model.steps))), owner)

    def claim(self, name: str, owner: int) -> Claim | None:
        """A hint for a step arrives at an owner, who gets it if the model says so."""
        claim = self.claims[owner].claim(self.name, name, 60.0)
        assert (claim is not None) == (name in self.model.claimable())
        if claim is not None:
            self._took(claim, owner)
        return claim

    @precondition(lambda self: self.held)
    @rule(
        data=st.data(), status=st.sampled_from(["done", "done", "failed", "not_applicable"]),
        effects=st.integers(0, 3), may_follow=st.sets(st.integers(0, 5)),
    )  # fmt: skip
    def finish(self, data: st.DataObject, status: str, effects: int, may_follow: set[int]) -> None:
        """Whoever believes to hold a step finishes it, perhaps long after having lost it, and may go on."""
        self.finish_claim(self._drop_any(data), status, effects, may_follow)

    def finish_claim(self, claim: Claim, status: str, effects: int = 0, may_follow: Iterable[int] = ()) -> None:
        """Finish a step; what the engine answers, readies and goes on with is what the model says."""
        step, before = self.model.steps[claim.step], self._rows(self.id)
        follow = {name: 60.0 for name in self.model.steps if int(name[1:]) in may_follow}
        owner = step.owner or HEALTHY
        done = self.claims[owner].complete(
            claim, status, result=json.dumps({"by": claim.token}) if status == "done" else None,
            error="broke" if status == "failed" else None, effects=_effects(claim, effects),
            next_limits=follow or None,
        )  # fmt: skip
        assert done.accepted == self.model.holds(claim.step, claim.token)
        if not done.accepted:
            assert self._rows(self.id) == before and not done.ready and done.next is None
            return
        if status == "done":
            step.result = json.dumps({"by": claim.token})
            step.effects = [effect.key for effect in _effects(claim, effects)]
        ready = self.model.end(claim.step, status, "broke" if status == "failed" else None)
        expected = (
            [name for name in self.model.claimable() if name in follow] if self.model.status == "running" else []
        )
        assert (done.next.step if done.next else None) == (expected[0] if expected else None)
        assert list(done.ready) == [name for name in ready if name not in expected[:1]]
        if done.next is not None:
            self._took(done.next, owner)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), then=st.sampled_from(["now", "later", "fallback"]))
    def give_back(self, data: st.DataObject, then: str) -> None:
        """An attempt failed: the step is to be run again, at once or after a wait, or by its fallback."""
        self.give_claim_back(self._drop_any(data), then)

    def give_claim_back(self, claim: Claim, then: str) -> None:
        """Give a step back: "now", "later" or to its "fallback"."""
        before = self._rows(self.id)
        reason, wait_s = f"once more, {then}", 3600.0 if then == "later" else 0.0
        accepted = self.claims[12].retry(claim, reason, wait_s=wait_s, fallback=then == "fallback")
        assert accepted == self.model.holds(claim.step, claim.token)
        if accepted:
            self.model.give_back(claim.step, reason, fallback=then == "fallback", deferred=then == "later")
        else:
            assert self._rows(self.id) == before

    @precondition(lambda self: any(step.deferred for step in self.model.steps.values()))
    @rule()
    def a_wait_is_over(self) -> None:
        """Steps that waited for their next attempt may be claimed."""
        self._change("run_at = clock_timestamp()", [n for n, step in self.model.steps.items() if step.deferred])
        for step in self.model.steps.values():
            step.deferred = False

    @precondition(lambda self: self._running())
    @rule(data=st.data(), deadline=st.booleans())
    def time_runs_out(self, data: st.DataObject, deadline: bool) -> None:
        """The lease of a step is over, because its owner is paused, or its deadline, because it hangs."""
        name = data.draw(st.sampled_from(self._running()))
        self._change("lease_until = clock_timestamp() - interval '10 s'", [name])
        self.model.steps[name].expired = True
        if deadline:
            # Long over: the time in which its owner may end it by itself is over too.
            self._change("deadline = clock_timestamp() - interval '10 s'", [name])
            self.model.steps[name].overdue = True

    @precondition(lambda self: self.held)
    @rule()
    def heartbeat(self) -> None:
        """All owners renew what they believe to hold: leases grow, past no deadline, of what they do hold alone."""
        mine = [claim.step for token, claim in self.held.items() if self.model.holds(claim.step, token)]
        assert self.ask(sql.RENEW, list(self.held), 30.0) == [(len(mine),)]
        for name in mine:
            self.model.steps[name].expired = self.model.steps[name].overdue
        late = "SELECT step FROM step_runs WHERE workflow_id = %s AND status = 'running' AND lease_until > deadline"
        assert not self.ask(late, self.id)

    @rule(dead=st.sets(st.sampled_from(OWNERS)), due=st.booleans())
    def sweep(self, dead: set[int], due: bool) -> None:
        """Owners die; a sweep takes their steps, and those whose lease is over, and names what has waited."""
        lost = [name for name in self._running() if self._is_lost(self.model.steps[name], dead)]
        # What was lost too often fails first, in the order of the graph; the rest is taken by lease.
        order = (
            "SELECT step FROM step_runs WHERE workflow_id = %s AND step = ANY (%s) ORDER BY recoveries < %s, "
            "CASE WHEN recoveries >= %s THEN position END, lease_until"
        )
        lost = [row[0] for row in self.ask(order, self.id, lost, MAX_RECOVERIES, MAX_RECOVERIES)]
        named = set(self.model.claimable()) if due else set()
        if due:
            self._change("hint_due = clock_timestamp()", sorted(named))
        found = [row[2] for row in self.ask(sql.SWEEP, sorted(dead), 100, MAX_RECOVERIES) if row[0] == self.name]
        for name in lost:
            self.model.recover(name, MAX_RECOVERIES)
        claimable = set(self.model.claimable())
        assert len(found) == len(set(found))
        assert (named | set(lost)) & claimable <= set(found) <= claimable

    @rule()
    def start_again(self) -> None:
        """Starting twice is starting once: it is told what is ready."""
        before = self._rows(self.id)
        assert self._start() == (False, "hash", self.model.claimable())
        assert self._rows(self.id) == before

    @invariant()
    def the_database_agrees(self) -> None:
        """One checkpoint and one set of effects, those of the accepted attempt; all else as the model has it."""
        if not hasattr(self, "other_rows"):
            return
        expected = [
            (name, step.status, step.phase, step.attempt, step.recoveries, step.token, step.result, step.effects,
             self.model.status)
            for name, step in self.model.steps.items()
        ]  # fmt: skip
        assert self._rows(self.id) == expected
        assert self._rows(self.other) == self.other_rows

    def teardown(self) -> None:
        """From wherever it is, sweeps and one healthy worker that hears of nothing else bring it to its end."""
        if not hasattr(self, "other_rows"):
            return
        over = "SELECT status FROM workflows WHERE id = %s AND finished_at IS NOT NULL"
        try:
            for _ in self.model.steps:
                # Time passes. A row without a time for its hint gets none by that.
                self.ask("UPDATE step_runs SET run_at = clock_timestamp(), hint_due = clock_timestamp() "
                         "WHERE workflow_id = %s AND status = 'ready' AND hint_due IS NOT NULL", self.id)  # fmt: skip
                for row in self.ask(sql.SWEEP, list(OWNERS), 100, 1000):
                    claim = self.claims[HEALTHY].claim(row[0], row[2], 60.0) if row[0] == self.name else None
                    if claim is not None:
                        assert self.claims[HEALTHY].complete(claim, "done", result="1").accepted
            assert self.ask(over, self.id) == [("failed" if self.model.status == "failed" else "done",)]
        finally:
            self.ask("DELETE FROM workflows WHERE id IN (%s, %s)", self.id, self.other)

    def _running(self) -> list[str]:
        return [name for name, step in self.model.steps.items() if step.status == "running"]

    @staticmethod
    def _is_lost(step: StepModel, dead: set[int]) -> bool:
        return step.owner in dead or step.expired

    def _change(self, what: str, names: list[str]) -> None:
        self.ask(f"UPDATE step_runs SET {what} WHERE workflow_id = %s AND step = ANY (%s)", self.id, names)

    def _drop_any(self, data: st.DataObject) -> Claim:
        # By place: tokens are random, and what is drawn must not depend on them.
        return self.held.pop(list(self.held)[data.draw(st.integers(0, len(self.held) - 1))])

    def _rows(self, execution: int) -> list[tuple[Any, ...]]:
        return self.ask(_ROWS, execution)


def _effects(claim: Claim, count: int) -> list[Effect]:
    return [
        Effect(
            step=claim.step, position=int(claim.step[1:]), number=number, kind="k", payload=claim.token,
            key=f"{claim.step}:{number}:{claim.token}",
        )
        for number in range(count)
    ]  # fmt: skip


def machine_on(connection: Any) -> type[Life]:
    """The machine, its executions in the database of the connection, in which it watches each change of status."""
    with connection.cursor() as cursor:
        cursor.execute(_WATCH)
    claims = {owner: Claims(Connection("test"), owner, 30.0) for owner in (*OWNERS, HEALTHY, BYSTANDER)}
    return type("Life", (Life,), {"connection": connection, "claims": claims})


def run(machine: type[Life], examples: int, *, phases: tuple[Phase, ...] = tuple(Phase), fixed: bool = False) -> None:
    """Lead so many random lives. fixed: the same ones each time."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, phases=phases, stateful_step_count=40, deadline=None, derandomize=fixed,
            database=None, suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
