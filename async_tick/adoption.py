"""Adoption: the one transaction after which what a tick did counts. Everything before it is scratch."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from async_tick.outcome import ExecutionOutcome
from tickover.canonical import Json, canonical_text, normalise, parse
from tickover.context import thaw
from tickover.errors import TickoverError
from tickover.ground.raw import connect_raw
from tickover.workflow import Workflow

# The advisory transaction lock of the route: writers take it shared, a move of the route exclusively.
ROUTE_LOCK = 731_652_901


class Fenced(TickoverError):
    """A tick may not write any more: the route has moved on, or another runner has taken the tick over."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Charge:
    """The right to run a tick: its runner's token and the epoch under which it was given; immutable."""

    run: str
    tick: int
    token: str
    epoch: int


def take_charge(run: str, tick: int, execution_id: str, token: str) -> Charge:
    """Claim a tick, or take it over from a runner that is gone; both write the token that alone may adopt it.

    Raises Fenced if the tick has been adopted. Only one runner of a run may be alive: see `async_tick.loop`.
    """
    with (
        closing(connect_raw(application_name="tickover adoption")) as connection,
        connection,
        connection.cursor() as do,
    ):
        do.execute("SELECT pg_advisory_xact_lock_shared(%s)", (ROUTE_LOCK,))
        do.execute("SELECT epoch FROM route WHERE id = 1")
        epoch = int(do.fetchall()[0][0])
        do.execute(
            "INSERT INTO ticks (run, tick, owner, runner_token, epoch, execution_id) "
            "VALUES (%s, %s, 'async', %s, %s, %s) "
            "ON CONFLICT (run, tick) DO UPDATE SET runner_token = excluded.runner_token, epoch = excluded.epoch "
            "WHERE ticks.adopted_at IS NULL RETURNING tick",
            (run, tick, token, epoch, execution_id),
        )
        if do.fetchone() is None:
            raise Fenced(f"tick {tick} of run {run} is over already; go on with the next one")
    return Charge(run=run, tick=tick, token=token, epoch=epoch)


def adopt(charge: Charge, workflow: Workflow, ended: ExecutionOutcome) -> Json:
    """Make what an execution did count, once, and return the state after it.

    In one transaction: epoch and token are checked, the tick is marked, the reducer's state and the effects for
    delivery are written. A failed execution is adopted as such: its state is the one it began with, and it has no
    effects. Raises Fenced, and nothing was written, if this runner may not.
    """
    done = ended.status == "done"
    effects = ended.effects if done else ()
    state = normalise(workflow.apply(thaw(ended.state), effects), workflow.normalise)
    with (
        closing(connect_raw(application_name="tickover adoption")) as connection,
        connection,
        connection.cursor() as do,
    ):
        do.execute("SELECT pg_advisory_xact_lock_shared(%s)", (ROUTE_LOCK,))
        do.execute(
            "UPDATE ticks SET outcome = %s, adopted_at = clock_timestamp() WHERE run = %s AND tick = %s "
            "AND runner_token = %s::uuid AND epoch = %s AND adopted_at IS NULL "
            "AND epoch = (SELECT epoch FROM route WHERE id = 1) RETURNING tick",
            (ended.status, charge.run, charge.tick, charge.token, charge.epoch),
        )
        if do.fetchone() is None:
            raise Fenced(
                f"tick {charge.tick} of run {charge.run} belongs to another runner or an older epoch by now; "
                "nothing was written"
            )
        do.execute(
            "INSERT INTO states (run, tick, document) VALUES (%s, %s, %s)",
            (charge.run, charge.tick, canonical_text(state)),
        )
        for effect in effects:
            do.execute(
                "INSERT INTO outbox (run, tick, step, position, number, kind, key, payload) "
                "VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (run, tick, step, key) DO NOTHING",
                (
                    charge.run, charge.tick, effect.step, effect.position, effect.number, effect.kind, effect.key,
                    canonical_text(effect.payload),
                ),
            )  # fmt: skip
    return state


def latest_state(run: str, workflow: Workflow) -> tuple[int, Json]:
    """The next tick of a run, and the state that it begins with."""
    with (
        closing(connect_raw(application_name="tickover adoption")) as connection,
        connection,
        connection.cursor() as do,
    ):
        do.execute("SELECT tick, document FROM states WHERE run = %s ORDER BY tick DESC LIMIT 1", (run,))
        row = do.fetchone()
    if row is None:
        return 0, normalise(workflow.start_state(), workflow.normalise)
    return row[0] + 1, parse(row[1])
