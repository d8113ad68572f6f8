"""The life of steps on the real functions: claims, completions, failures, deaths and late commits in any order."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from hypothesis import Phase

from async_tick.claims import Claim
from tests.integration.step_machine import Life, machine_on, run
from tests.integration.step_stories import STORIES


@pytest.fixture
def connection(database: str) -> Iterator[Any]:
    """A connection to a fresh database, in autocommit."""
    with closing(psycopg2.connect(database)) as opened:
        opened.autocommit = True
        yield opened


@pytest.mark.timeout(300)
def test_whatever_happens_each_step_is_done_once(connection: Any) -> None:
    """Claims, duplicate hints, completions, late commits, retries, fallbacks, deaths, takeovers and overruns in any
    order."""
    run(machine_on(connection), 150)


def test_tokens_are_not_guessed(connection: Any) -> None:
    """A completion with a token that was never given is refused."""
    machine = machine_on(connection)()
    machine.begin([set()], set())
    claim = machine.claims[11].claim(machine.name, "s0", 60.0)
    assert claim is not None
    forged = Claim(**{name: getattr(claim, name) for name in Claim.__slots__} | {"token": str(uuid.uuid4())})
    assert not machine.claims[11].complete(forged, "done", result="1").accepted


@pytest.mark.parametrize("story", STORIES)
def test_a_told_life_goes_as_it_should(connection: Any, story: str) -> None:
    """Lives that chance seldom leads: zombies, siblings at an end, waits, sweeps that cancel."""
    STORIES[story](machine_on(connection)())


# What a mutant changes -> the function, the text, what stands there instead.
MUTANTS = {
    "any holder may finish": ("complete", "s.status = 'running' AND s.token = p_token", "s.status = 'running'"),
    "anyone may finish": ("complete", "AND s.token = p_token", "AND s.token IS NOT DISTINCT FROM s.token"),
    "anyone may finish at any time": ("complete", "AND s.status = 'running' AND s.token = p_token", ""),
    "effects come before the fence": (
        "complete", "    IF NOT FOUND THEN RETURN; END IF;\n    accepted := true;",
        "    IF NOT FOUND THEN INSERT INTO effects SELECT p_workflow, e.position, e.number + 100, e.step, e.kind, "
        "e.key, e.payload FROM json_to_recordset(p_effects) AS e (position integer, number integer, step text, "
        "kind text, key text, payload text); RETURN; END IF;\n    accepted := true;",
    ),
    "effects of failures count": (
        "complete", "        INSERT INTO effects",
        "    END IF;\n    IF p_effects IS NOT NULL THEN\n        INSERT INTO effects",
    ),
    "effects are lost": ("complete", "FROM json_to_recordset(p_effects)", "FROM json_to_recordset('[]'::json)"),
    "ready before its needs are over": (
        "complete", "AND n.status IN ('waiting', 'ready', 'running'))", "AND n.status = 'running')",
    ),
    "ready when one need is over": ("complete", "n.step = ANY (s.needs)", "n.step = s.needs[1]"),
    "needs of any execution": ("complete", "n.workflow_id = p_workflow AND n.step", "n.step"),
    "over while optional steps go on": (
        "complete", "s.status IN ('waiting', 'ready', 'running')\n    )", "s.status IN ('waiting', 'ready')\n    )",
    ),
    "a failure cancels nothing that runs": (
        "complete", "AND s.status IN ('waiting', 'ready', 'running');", "AND s.status IN ('waiting', 'ready');",
    ),
    "a readied step gets no hint": ("complete", "hint_due = v_now + interval '2 seconds'", "hint_due = NULL"),
    "who goes on takes what is to be run later": ("complete", "AND r.run_at <= v_now", ""),
    "a claim takes what runs": ("claim", "AND s.status = 'ready'", "AND s.status IN ('ready', 'running')"),
    "a claim does not wait": ("claim", "AND s.run_at <= v_now", ""),
    "a fallback is an attempt": ("claim", "s.attempt + (s.phase = 'run')::integer", "s.attempt + 1"),
    "anyone may give back": ("retry", "AND s.token = p_token", ""),
    "a step that is given back gets no hint": (
        "retry", "hint_due = clock_timestamp()", "hint_due = NULL::timestamptz",
    ),
    "a lease outlives its deadline": (
        "renew", "least(s.deadline, clock_timestamp() + make_interval(secs => p_lease_s))",
        "clock_timestamp() + make_interval(secs => p_lease_s)",
    ),
    "a lost token renews": ("renew", "s.status = 'running' AND s.token = ANY (p_tokens)", "s.status = 'running'"),
    "a recovery is an attempt": ("sweep", "s.attempt - (s.phase = 'run')::integer", "s.attempt"),
    "recoveries are not counted": ("sweep", "recoveries = s.recoveries + 1", "recoveries = s.recoveries"),
    "only the dead are swept": ("lost", "OR p_step.lease_until", "OR NULL::timestamptz"),
    "who hangs is recovered before it has failed": ("lost", "interval '2 seconds'", "interval '0'"),
    "leases alone are swept": ("lost", "p_step.owner = ANY (p_dead) OR", ""),
    "a sweep runs what it cancelled": (
        "sweep", "s.status = 'running' AND s.recoveries < p_max_recoveries", "s.recoveries < p_max_recoveries",
    ),
    "a recovered step gets no hint": (
        "sweep", "hint_due = clock_timestamp(), hints = 0", "hint_due = NULL, hints = 0",
    ),
    "starting twice starts again": (
        "start", "        created := false;",
        "        created := false; UPDATE step_runs s SET status = 'ready', run_at = clock_timestamp() "
        "FROM workflows w WHERE w.id = s.workflow_id AND w.execution_id = p_execution AND cardinality(s.needs) = 0;",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_found(connection: Any, name: str) -> None:
    """An engine with one rule broken, in PostgreSQL itself, does not survive the machine."""
    function, original, mutant = MUTANTS[name]
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = %s", (f"tickover_{function}",))
        definition = cursor.fetchall()[0][0]
        assert definition.count(original) == 1, "the function no longer has what the mutant changes"
        cursor.execute(definition.replace(original, mutant))
    with pytest.raises((AssertionError, psycopg2.Error, ExceptionGroup)):
        _lead_lives(machine_on(connection))


def _lead_lives(machine: type[Life]) -> None:
    for story in STORIES.values():
        story(machine())
    # The same lives each time; the smallest failing one is of no interest.
    run(machine, 400, phases=(Phase.generate,), fixed=True)
