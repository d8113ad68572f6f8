"""The life of steps on the real functions: claims, completions, failures, deaths and late commits in any order."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest
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
from async_tick.sweeper import MAX_RECOVERIES
from tickover.effects import Effect

OWNERS = (11, 12, 13)
OVER = {"done", "failed", "not_applicable", "cancelled"}
_numbers = itertools.count()


@pytest.fixture
def connection(database: str) -> Iterator[Any]:
    """A connection to a fresh database, in autocommit."""
    with closing(psycopg2.connect(database)) as opened:
        opened.autocommit = True
        yield opened


def machine_on(connection: Any) -> type[RuleBasedStateMachine]:
    """The state machine, its executions in the database of the connection."""

    def ask(statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
            return list(cursor.fetchall()) if cursor.description else []

    claims = {owner: Claims(Connection("test"), owner, 30.0) for owner in OWNERS}

    class Life(RuleBasedStateMachine):
        """One execution of a random graph. The model: what was accepted, and who holds what."""

        @initialize(
            needs=st.lists(st.sets(st.integers(0, 3), max_size=2), min_size=1, max_size=5),
            optional=st.sets(st.integers(0, 4)),
        )
        def begin(self, needs: list[set[int]], optional: set[int]) -> None:
            self.needs = {f"s{at}": {f"s{need}" for need in wanted if need < at} for at, wanted in enumerate(needs)}
            self.critical = {f"s{at}": at not in optional for at in range(len(needs))}
            self.name = f"run/{next(_numbers)}/async/control/1"
            steps = [
                {"step": step, "position": at, "queue": "q", "critical": self.critical[step], "needs": sorted(wanted)}
                for at, (step, wanted) in enumerate(self.needs.items())
            ]
            values = (self.name, "run", 1, "async", "control", 1, "w", "1", "null", "hash", "{}", None)
            ask(sql.START, *values, "2026-01-01T00:00:00Z", 1.0, json.dumps(steps))
            self.id = ask("SELECT id FROM workflows WHERE execution_id = %s", self.name)[0][0]
            self.claims = claims
            self.held: dict[str, Claim] = {}  # token -> what its owner believes to hold
            self.holder: dict[str, str] = {}  # step -> the token that alone may finish it
            self.accepted: dict[str, tuple[str, str]] = {}  # step -> status and token of the accepted completion
            self.attempts: dict[str, int] = dict.fromkeys(self.needs, 0)
            self.recoveries: dict[str, int] = dict.fromkeys(self.needs, 0)
            self.failed = False

        def _took(self, claim: Claim) -> None:
            assert claim.step not in self.holder and claim.step not in self.accepted and not self.failed
            assert self.needs[claim.step] <= self.accepted.keys()
            self.held[claim.token] = claim
            self.holder[claim.step] = claim.token
            self.attempts[claim.step] += claim.phase == "run"
            assert claim.attempt == self.attempts[claim.step]
            done = {need for need in self.needs[claim.step] if self.accepted[need][0] == "done"}
            assert claim.results == {need: {"by": self.accepted[need][1]} for need in done}
            assert claim.absent.keys() == self.needs[claim.step] - done

        @rule(data=st.data(), owner=st.sampled_from(OWNERS))
        def hint(self, data: st.DataObject, owner: int) -> None:
            """A hint arrives, once or again, for any step."""
            step = data.draw(st.sampled_from(sorted(self.needs)))
            claim = self.claims[owner].claim(self.name, step, 60.0)
            if claim is not None:
                self._took(claim)

        @precondition(lambda self: self.held)
        @rule(
            data=st.data(), status=st.sampled_from(["done", "done", "failed", "not_applicable"]), go_on=st.booleans()
        )
        def finish(self, data: st.DataObject, status: str, go_on: bool) -> None:
            """Whoever believes to hold a step finishes it, perhaps long after having lost it."""
            token = self._any_held(data)
            claim = self.held[token]
            before = self._rows()
            effect = Effect(
                step=claim.step,
                position=int(claim.step[1:]),
                number=0,
                kind="k",
                payload=token,
                key=f"{claim.step}:{token}",
            )
            done = self.claims[11].complete(
                claim, status, result=json.dumps({"by": token}) if status == "done" else None,
                effects=[effect] if status == "done" else [], error="broke" if status == "failed" else None,
                next_limits=dict.fromkeys(self.needs, 60.0) if go_on else None,
            )  # fmt: skip
            assert done.accepted == (self.holder.get(claim.step) == token and not self.failed)
            del self.held[token]
            if not done.accepted:
                assert self._rows() == before and not done.ready and done.next is None
                return
            del self.holder[claim.step]
            self.accepted[claim.step] = (status, token)
            self.failed = status == "failed" and self.critical[claim.step]
            if self.failed:
                self.holder.clear()
            if done.next is not None:
                self._took(done.next)

        @precondition(lambda self: self.held)
        @rule(data=st.data(), fallback=st.booleans())
        def give_back(self, data: st.DataObject, fallback: bool) -> None:
            """An attempt failed: the step is to be run again, or by its fallback."""
            token = self._any_held(data)
            claim = self.held.pop(token)
            accepted = self.claims[12].retry(claim, "once more", fallback=fallback)
            assert accepted == (self.holder.get(claim.step) == token)
            if accepted:
                del self.holder[claim.step]

        @precondition(lambda self: self.holder)
        @rule(data=st.data(), by_lease=st.booleans())
        def die(self, data: st.DataObject, by_lease: bool) -> None:
            """An owner dies, or is paused until its lease is over; a sweep takes the step from it."""
            step = data.draw(st.sampled_from(sorted(self.holder)))
            dead: list[int] = []
            if by_lease:
                ask("UPDATE step_runs SET lease_until = clock_timestamp() - interval '1 s' "
                    "WHERE workflow_id = %s AND step = %s", self.id, step)  # fmt: skip
            else:
                owner = ask("SELECT owner FROM step_runs WHERE workflow_id = %s AND step = %s", self.id, step)[0][0]
                dead = [owner]
            lost = [
                row[0] for row in ask(
                    "SELECT step FROM step_runs WHERE workflow_id = %s AND status = 'running' "
                    "AND (owner = ANY (%s) OR lease_until < clock_timestamp())", self.id, dead)
            ]  # fmt: skip
            ask(sql.SWEEP, dead, 100, MAX_RECOVERIES)
            for name in lost:
                del self.holder[name]
                if self.recoveries[name] >= MAX_RECOVERIES:
                    self.accepted[name] = ("failed", "")
                    if self.critical[name]:
                        self.failed = True
                        self.holder.clear()
                else:
                    self.recoveries[name] += 1
                    phase = ask("SELECT phase FROM step_runs WHERE workflow_id = %s AND step = %s", self.id, name)
                    self.attempts[name] -= phase[0][0] == "run"

        def _any_held(self, data: st.DataObject) -> str:
            # By place: tokens are random, and what is drawn must not depend on them.
            return list(self.held)[data.draw(st.integers(0, len(self.held) - 1))]

        def _rows(self) -> list[tuple[Any, ...]]:
            return ask(
                "SELECT s.step, s.status, s.token::text, s.attempt, c.state, "
                "(SELECT array_agg(e.key ORDER BY e.number) FROM effects e "
                "WHERE e.workflow_id = s.workflow_id AND e.step = s.step), w.status FROM step_runs s "
                "JOIN workflows w ON w.id = s.workflow_id LEFT JOIN workflow_checkpoints c "
                "ON c.workflow_id = s.workflow_id AND c.stage = s.step WHERE s.workflow_id = %s ORDER BY s.position",
                self.id,
            )

        @invariant()
        def the_database_agrees(self) -> None:
            """One checkpoint and one set of effects, those of the accepted attempt; readiness and end as the graph
            has them."""
            if not hasattr(self, "id"):
                return
            ended = self.failed or self.accepted.keys() == self.needs.keys()
            for step, status, token, attempt, state, effects, workflow in self._rows():
                assert workflow == ("failed" if self.failed else "done" if ended else "running")
                assert attempt == self.attempts[step]
                if step in self.accepted:
                    outcome, by = self.accepted[step]
                    assert status == outcome
                    assert state == (json.dumps({"by": by}) if outcome == "done" else None)
                    assert effects == ([f"{step}:{by}"] if outcome == "done" else None)
                    continue
                assert state is None and effects is None
                if self.failed:
                    assert status == "cancelled"
                elif step in self.holder:
                    assert (status, token) == ("running", self.holder[step])
                else:
                    assert status == ("ready" if self.needs[step] <= self.accepted.keys() else "waiting")

        def teardown(self) -> None:
            """From wherever it is, one healthy worker brings the execution to its end."""
            if not hasattr(self, "id"):
                return
            ask(sql.SWEEP, list(OWNERS), 100, 1000)
            for _ in range(len(self.needs)):
                for step in self.needs:
                    claim = self.claims[13].claim(self.name, step, 60.0)
                    if claim is not None:
                        assert self.claims[13].complete(claim, "done", result="1").accepted
            states = {row[6] for row in self._rows()}
            assert states <= {"done", "failed"} and len(states) == 1

    return Life


def run(machine: type[RuleBasedStateMachine], examples: int, *phases: Phase) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, phases=phases or tuple(Phase), stateful_step_count=30, deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )  # fmt: skip


def test_whatever_happens_each_step_is_done_once(connection: Any) -> None:
    """Claims, duplicate hints, completions, late commits, retries, fallbacks, deaths and takeovers in any order."""
    run(machine_on(connection), 120)


_FENCE = "s.status = 'running' AND s.token = p_token"


@pytest.mark.parametrize(
    ("original", "mutant"),
    [
        (_FENCE, "s.status = 'running'"),
        (_FENCE, "s.token IS NOT DISTINCT FROM s.token"),
        ("AND n.status IN ('waiting', 'ready', 'running'))", "AND n.status = 'running')"),
        ("s.attempt - (s.phase = 'run')::integer", "s.attempt"),
    ],
    ids=["any holder may finish", "anyone may finish", "ready before its needs are over", "a recovery is an attempt"],
)
def test_a_mutant_is_found(connection: Any, original: str, mutant: str) -> None:
    """Without its fence, its readiness rule, or its count of attempts the engine does not survive this test."""
    changed = 0
    for name in ("tickover_complete", "tickover_sweep"):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = %s", (name,))
            definition = cursor.fetchall()[0][0]
            changed += definition.count(original)
            cursor.execute(definition.replace(original, mutant))
    assert changed, "the functions no longer contain what the mutant changes"
    with pytest.raises((AssertionError, psycopg2.Error, ExceptionGroup)):
        # The smallest failing example is of no interest here.
        run(machine_on(connection), 150, Phase.generate)


def test_tokens_are_not_guessed(connection: Any) -> None:
    """A completion with a token that was never given is refused."""
    machine = machine_on(connection)()
    machine.begin([set()], set())
    claim = machine.claims[11].claim(machine.name, "s0", 60.0)
    assert claim is not None
    forged = Claim(**{name: getattr(claim, name) for name in Claim.__slots__} | {"token": str(uuid.uuid4())})
    assert not machine.claims[11].complete(forged, "done", result="1").accepted
