"""Adoption: the one transaction after which what a tick did counts. Everything before it is scratch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from async_tick.outcome import ExecutionOutcome
from tickover.canonical import Json, canonical_text, normalise, parse
from tickover.context import thaw
from tickover.effects import Effect
from tickover.errors import TickoverError
from tickover.execution import System
from tickover.ground.raw import connect_raw
from tickover.workflow import Workflow

# The advisory transaction lock of the route: writers take it shared, a move of the route exclusively.
ROUTE_LOCK = 731_652_901
# Held shared while a tick is claimed: who holds it exclusively sees to it that no further tick begins.
BOUNDARY_LOCK = 731_652_902


class Fenced(TickoverError):
    """A tick may not write any more: the route has moved on, or another runner has taken the tick over."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Charge:
    """The right to run a tick: its runner's token, the epoch under which it was given, and the system that owns the
    tick; immutable. begun_before: a runner that is gone had begun it with the same owner. beside: name of the run in
    which the other system runs beside it, None where none does."""

    run: str
    tick: int
    token: str
    epoch: int
    owner: System
    begun_before: bool
    beside: str | None = None


@contextmanager
def transaction(connection: Any = None) -> Iterator[Any]:
    """A cursor in a transaction, on the connection (not in autocommit) or (None) on one of its own. Whoever holds the
    route's lock must give the connection that holds it: another one would wait behind a move, and the move for the
    holder."""
    if connection is not None:
        with connection, connection.cursor() as do:
            yield do
        return
    with closing(connect_raw(application_name="tickover adoption")) as own, own, own.cursor() as do:
        yield do


def take_charge(
    run: str, tick: int, execution_id: str, token: str, *, legacy_is_there: bool = True, interval_s: float = 0.0,
    beside: Callable[[int, System], str | None] = lambda epoch, owner: None, connection: Any = None,
) -> Charge:  # fmt: skip
    """Claim a tick for the system in charge, or take it over from a runner that is gone; both write the token that
    alone may adopt it.

    A tick keeps the owner that it began with, unless the route has moved since: what was done under the old epoch can
    no longer count. legacy_is_there: False puts the new system in charge whatever the route says. interval_s: of the
    schedule, for the record. beside: names the run in which the other system runs beside a tick of this epoch and
    owner; a tick that is taken over with its owner stays in the run that it began in. connection: not in autocommit;
    None opens one. Raises Fenced if the tick has been adopted. Only one runner of a run may be alive: see
    `async_tick.loop`.
    """
    with transaction(connection) as do:
        epoch, owner, begun_before = _standing(do, run, tick, legacy_is_there)
        do.execute(
            "INSERT INTO ticks (run, tick, owner, runner_token, epoch, execution_id, interval_ms, beside, "
            "claimed_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, clock_timestamp()) "
            "ON CONFLICT (run, tick) DO UPDATE SET runner_token = excluded.runner_token, epoch = excluded.epoch, "
            "owner = excluded.owner, interval_ms = excluded.interval_ms, claimed_at = excluded.claimed_at, "
            "beside = CASE WHEN ticks.owner = excluded.owner THEN ticks.beside ELSE excluded.beside END "
            "WHERE ticks.adopted_at IS NULL RETURNING beside",
            (run, tick, owner.value, token, epoch, execution_id, interval_s * 1000, beside(epoch, owner)),
        )
        claimed = do.fetchone()
        if claimed is None:
            raise Fenced(f"tick {tick} of run {run} is over already; go on with the next one")
    return Charge(
        run=run, tick=tick, token=token, epoch=epoch, owner=owner, begun_before=begun_before, beside=claimed[0]
    )


def who_is_next(
    run: str, tick: int, *, legacy_is_there: bool = True, connection: Any = None
) -> tuple[System, bool]:  # fmt: skip
    """Who would get a tick now, and whether that system began it. It stays so while the route's lock is held."""
    with transaction(connection) as do:
        return _standing(do, run, tick, legacy_is_there)[1:]


def _standing(do: Any, run: str, tick: int, legacy_is_there: bool) -> tuple[int, System, bool]:
    """Epoch, owner, and whether that owner had begun the tick."""
    do.execute("SELECT pg_advisory_xact_lock_shared(%s)", (ROUTE_LOCK,))
    do.execute("SELECT epoch, owner FROM route WHERE id = 1")
    epoch, in_charge = do.fetchall()[0]
    if not legacy_is_there:
        in_charge = System.ASYNC.value
    do.execute("SELECT owner, epoch FROM ticks WHERE run = %s AND tick = %s", (run, tick))
    known = do.fetchone()
    if known is None:
        return int(epoch), System(in_charge), False
    if legacy_is_there and known[0] == System.LEGACY.value:
        # What the old system began it has done to the world, whoever is in charge by now.
        return int(epoch), System.LEGACY, True
    # What the new system began under an older epoch is scratch, and no part of what the old one is given to do.
    owner = known[0] if known[1] == epoch else in_charge
    return int(epoch), System(owner), owner == known[0]


def adopt(charge: Charge, workflow: Workflow, ended: ExecutionOutcome, connection: Any = None) -> Json:
    """Make what an execution did count, once, and return the state after it.

    In one transaction: epoch and token are checked, the tick is marked, the reducer's state and the effects for
    delivery are written. A failed execution is adopted as such: its state is the one it began with, and it has no
    effects. Raises Fenced, and nothing was written, if this runner may not.
    """
    done = ended.status == "done"
    effects = ended.effects if done else ()
    state = normalise(workflow.apply(thaw(ended.state), effects), workflow.normalise)
    adopt_state(charge, ended.status, state, effects, connection)
    return state


def adopt_state(
    charge: Charge, outcome: str, state: Json, effects: Sequence[Effect] = (), connection: Any = None
) -> None:
    """Mark a tick as over, once, with the state after it and the effects that are still to be delivered, in one
    transaction. Raises Fenced, and nothing was written, if this runner may not."""
    with transaction(connection) as do:
        do.execute("SELECT pg_advisory_xact_lock_shared(%s)", (ROUTE_LOCK,))
        do.execute(
            "UPDATE ticks SET outcome = %s, adopted_at = clock_timestamp(), overran = coalesce(interval_ms > 0 "
            "AND extract(epoch FROM clock_timestamp() - claimed_at) * 1000 > interval_ms, false) "
            "WHERE run = %s AND tick = %s "
            "AND runner_token = %s::uuid AND epoch = %s AND adopted_at IS NULL "
            "AND epoch = (SELECT epoch FROM route WHERE id = 1) RETURNING tick",
            (outcome, charge.run, charge.tick, charge.token, charge.epoch),
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


def owner_of(run: str, tick: int, connection: Any = None) -> System | None:
    """The system that owns a tick, or None for one that was not begun."""
    with transaction(connection) as do:
        do.execute("SELECT owner FROM ticks WHERE run = %s AND tick = %s", (run, tick))
        row = do.fetchone()
    return None if row is None else System(row[0])


def latest_state(run: str, workflow: Workflow, connection: Any = None) -> tuple[int, Json]:
    """The next tick of a run, and the state that it begins with."""
    with transaction(connection) as do:
        do.execute("SELECT tick, document FROM states WHERE run = %s ORDER BY tick DESC LIMIT 1", (run,))
        row = do.fetchone()
    if row is None:
        return 0, normalise(workflow.start_state(), workflow.normalise)
    return row[0] + 1, parse(row[1])
