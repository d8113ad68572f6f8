"""Rollback: the old system in charge again, with all that was written since. It needs PostgreSQL and nothing else."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from async_tick.adoption import latest_state, owner_of
from async_tick.loop import loop_lock
from async_tick.route import Route, move, who
from tickover.errors import ConfigurationError
from tickover.execution import System
from tickover.ground.raw import connect_raw
from tickover.workflow import Workflow


def roll_back(
    seen: Route, workflow: Workflow, run: str, home: Path, *, author: str | None, reason: str
) -> tuple[Route, int | None]:  # fmt: skip
    """Move the route to the old system, and bring its store up to date where no loop is there to do so.

    Returns the new route and the tick whose state was written to `home`; None where a loop serves the run (it writes
    the state before the old system's first tick), or nothing has run yet. Raises RouteMoved.
    """
    if workflow.write_state is None:
        raise ConfigurationError(
            f"workflow {workflow.name} has no write_state, so its old system cannot get its state"
        )
    now = move(seen, System.LEGACY, author=author or who(), reason=reason)
    with closing(connect_raw(application_name="tickover rollback")) as connection:
        connection.autocommit = True
        with connection.cursor() as do:
            do.execute("SELECT pg_try_advisory_lock(%s)", (loop_lock(run),))
            if not do.fetchall()[0][0]:
                return now, None
        number, state = latest_state(run, workflow)
        if number == 0 or owner_of(run, number - 1) is System.LEGACY:
            return now, None
        workflow.write_state(home, state)
        return now, number - 1
