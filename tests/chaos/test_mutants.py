"""Engines with one promise broken: each is caught by the checker, or by a chaos run that does not go on."""

from __future__ import annotations

import pytest

from shadow.violations import StaleCommit, TickStuck, WrittenApart
from tests.chaos.arena import LEASE_S, arena
from tests.chaos.chaos_run import ChaosEnd, go_through
from tests.chaos.troubles import Trouble

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

# Steps that work for longer than a lease: whoever is paused in one finds its heir still at it.
LONG_S = LEASE_S + 1.0
# Paused for so long, a worker wakes up after its step was taken over, and before its heir is done.
PAUSES = [[Trouble(kind="pause", victim=f"worker{number % 2}", for_s=LEASE_S + 1.5)] for number in range(3)]
KILLS = [[Trouble(kind="kill", victim="worker0", for_s=0.1)]]
NO_SWEEPER = """
CREATE OR REPLACE FUNCTION tickover_sweep(p_dead integer[], p_limit integer, p_max_recoveries integer)
RETURNS TABLE (execution_id text, workflow text, step text, queue text, recovered boolean) LANGUAGE plpgsql AS
$$ BEGIN RETURN; END $$
"""
NO_FENCE = """
DO $$ DECLARE v_code text; BEGIN
    SELECT pg_get_functiondef(oid) INTO v_code FROM pg_proc WHERE proname = 'tickover_complete';
    IF position(' AND s.token = p_token' IN v_code) = 0 THEN RAISE EXCEPTION 'there is no fence to take out'; END IF;
    EXECUTE replace(v_code, ' AND s.token = p_token', '');
END $$
"""


def _kinds(ended: ChaosEnd) -> set[type]:
    print(ended)
    return {type(each) for each in ended.checked.violations}


def test_the_same_troubles_are_no_trouble_to_the_engine_as_it_is() -> None:
    """Pauses and kills in the middle of long steps: steps are taken over, and no promise is broken."""
    with arena(workers=2, loops=1, work_s=LONG_S) as ground:
        ended = go_through([*PAUSES, *KILLS], ground)
    assert not ended.stuck and ended.checked.sound, str(ended)
    assert ended.checked.recovered > 0


def test_an_engine_without_its_fence() -> None:
    """Zombies commit what had been taken from them: each such commit is named. There are so many workers that one is
    free for what a paused one held, and is still at it when that one wakes."""
    with arena(NO_FENCE, workers=6, loops=1, work_s=LONG_S) as ground:
        ended = go_through(PAUSES, ground)
    assert StaleCommit in _kinds(ended)


def test_an_engine_without_its_sweeper() -> None:
    """What a killed worker held is never run again: its ticks are stuck, and named."""
    with arena(NO_SWEEPER, workers=2, loops=1, work_s=LONG_S) as ground:
        ended = go_through(KILLS, ground, patience_s=6 * LONG_S)
    assert ended.stuck and TickStuck in _kinds(ended)


def test_an_engine_that_commits_effects_apart_from_the_checkpoint() -> None:
    """Nothing goes wrong, and yet each effect is found that could have been lost."""
    with arena(workers=2, loops=1, workload="tests.chaos.mutant_job:job") as ground:
        ended = go_through(KILLS, ground)
    assert WrittenApart in _kinds(ended)
