"""The switchover: what is checked before the new system is put in charge, and the move itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from async_tick.connection import Connection
from async_tick.route import Route, move, who
from async_tick.worker import live_workers
from shadow.keys import evidence_keys
from shadow.store import RunRecord
from tickover.errors import ConfigurationError, ExitCode
from tickover.execution import System
from tickover.workflow import Workflow


class NotSafe(ConfigurationError):
    """A check before the switchover failed, and nothing was done."""

    exit_code = ExitCode.NOT_READY


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing that was looked at before a switchover; immutable. said: what was found, and what mends it."""

    name: str
    passed: bool
    said: str


_OVERDUE = """
SELECT count(*) FROM step_runs s JOIN workflows w ON w.id = s.workflow_id
WHERE w.status = 'running' AND s.status = 'ready' AND s.hints > 2
"""


def surroundings_checks(route: Route, workflow: Workflow) -> list[Check]:
    """Route, workers and backlog as they stand."""
    found = [
        Check(
            name="route", passed=route.owner is System.LEGACY,
            said=f"{route.owner} is in charge, epoch {route.epoch}"
            + ("" if route.owner is System.LEGACY else ": there is nothing to switch"),
        ),
        Check(
            name="holds", passed=route.holds == 0,
            said="nobody holds the route" if not route.holds
            else f"{route.holds} hold the route; `tickover route` shows why, `tickover release N` ends a hold",
        ),
    ]  # fmt: skip
    workers = live_workers()
    found.append(
        Check(
            name="workers", passed=workers > 0,
            said=f"{workers} connected" if workers else "none is there; start one with `tickover worker`",
        )
    )  # fmt: skip
    consumed = _consumed_queues() if workers else set()
    for queue in sorted({step.queue for step in workflow.steps}):
        said = "consumed" if queue in consumed else f"no worker answers for it; start one with --queues={queue}"
        found.append(Check(name=f"queue {queue}", passed=queue in consumed, said=said))
    overdue = int(Connection("tickover switchover").rows(_OVERDUE)[0][0])
    said = "nothing waits" if not overdue else f"{overdue} steps wait for a worker longer than they should"
    found.append(Check(name="backlog", passed=not overdue, said=said))
    return found


def _consumed_queues() -> set[str]:
    from async_tick.celery_app import app

    answers = app.control.inspect(timeout=3).active_queues() or {}
    return {queue["name"] for queues in answers.values() for queue in queues}


def evidence_check(record: RunRecord, workflow: Workflow, workload: str) -> Check:
    """Whether a run's evidence is of the code and configuration of the workload that would be put in charge."""
    if record.plan.workload != workload:
        said = f"run {record.run} ran {record.plan.workload}, and {workload} is served; name another run or workload"
        return Check(name="evidence", passed=False, said=said)
    now = evidence_keys(record.plan, workflow, record.rules)["behaviour"]
    same = now == record.behaviour_key
    said = f"run {record.run} ran the code that is here"
    if not same:
        said = f"run {record.run} ran other code or settings; run `tickover shadow` again"
    return Check(name="evidence", passed=same, said=said)


def switch(
    seen: Route, checks: Sequence[Check], *, reason: str, author: str | None, force: bool
) -> Route:  # fmt: skip
    """Put the new system in charge at the next boundary between ticks, and return the new route.

    force: although checks failed, which the record then says for good. Raises NotSafe, and what `route.move` raises.
    """
    failed = [check for check in checks if not check.passed]
    if seen.owner is not System.LEGACY:
        raise ConfigurationError("the new system is in charge already; `tickover route` shows since when")
    if failed and not force:
        raise NotSafe(
            f"not switched: {', '.join(check.name for check in failed)} failed; mend that, "
            "or use --force with --reason"
        )
    if failed:
        reason = f"{reason} (forced, although {', '.join(check.name for check in failed)} failed)"
    return move(seen, System.ASYNC, author=author or who(), reason=reason)
