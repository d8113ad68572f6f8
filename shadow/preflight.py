"""Preflight: what is looked at before the new system is put in charge. Nothing is changed by looking."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from async_tick.adoption import latest_state
from async_tick.doctor import Finding, Level
from async_tick.handover import has_content
from async_tick.route import Route
from shadow import switch_store
from shadow.keys import evidence_keys
from shadow.store import RunRecord
from tickover.canonical import Json, canonical_text, normalise
from tickover.execution import System
from tickover.ground.copying import size_of
from tickover.workflow import Workflow


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing that was looked at before a switchover; immutable. said: what was found, and what mends it.
    is_note: it passed, and is to be known all the same. may_be_forced: False for what no reason outweighs."""

    name: str
    passed: bool
    said: str
    is_note: bool = False
    may_be_forced: bool = True


def route_checks(route: Route) -> list[Check]:
    """Route and holds as they stand."""
    over = "" if route.owner is System.LEGACY else ": there is nothing to switch; `tickover route` shows since when"
    return [
        Check(
            name="route", passed=route.owner is System.LEGACY, may_be_forced=False,
            said=f"{route.owner} is in charge, epoch {route.epoch}{over}",
        ),
        Check(
            name="holds", passed=route.holds == 0, may_be_forced=False,
            said="nobody holds the route" if not route.holds
            else f"{route.holds} hold the route; `tickover route` shows why, `tickover release N` ends a hold",
        ),
    ]  # fmt: skip


def surroundings_checks(findings: Iterable[Finding], workers: int) -> list[Check]:
    """What the doctor found, workers, and what waits for them. workers: how many are connected to the database."""
    looked = list(findings)
    # That none is there is no more than a warning to the doctor, who does not know of the switchover.
    shown = [found for found in looked if found.level is not Level.OK and (workers or found.name != "workers")]
    checks = [
        Check(
            name="workers", passed=workers > 0,
            said=f"{workers} connected" if workers else "none is there; start one with `tickover worker`",
        ),
        *(_of_doctor(found) for found in looked if found.name.startswith("queue ")),
        *(_of_doctor(found) for found in shown if not found.name.startswith("queue ")),
    ]  # fmt: skip
    well = sum(found.level is Level.OK for found in looked)
    checks.append(Check(name="doctor", passed=True, said=f"{well} of {len(looked)} things are well"))
    late = switch_store.overdue()
    said = "nothing waits" if not late else f"{late} steps wait for a worker longer than they should"
    checks.append(Check(name="backlog", passed=not late, said=said))
    return checks


def _of_doctor(found: Finding) -> Check:
    remedy = f"; {found.remedy}" if found.remedy else ""
    return Check(
        name=found.name, passed=found.level is not Level.PROBLEM, is_note=found.level is Level.WARNING,
        said=f"{found.said}{remedy}",
    )  # fmt: skip


def evidence_checks(
    record: RunRecord, workflow: Workflow, workload: str, age: dt.timedelta | None, max_age_hours: float
) -> list[Check]:  # fmt: skip
    """Whether a run's evidence is of the code and configuration of the workload that would be put in charge, and not
    older than `max_age_hours`. age: of its newest comparison, None if there is none."""
    if record.plan.workload != workload:
        said = f"run {record.run} ran {record.plan.workload}, and {workload} is served; name another run or workload"
        return [Check(name="evidence", passed=False, said=said)]
    if record.plan.candidate is not System.ASYNC:
        said = f"run {record.run} tried {record.plan.candidate} beside async; name one that tried async"
        return [Check(name="evidence", passed=False, said=said)]
    same = evidence_keys(record.plan, workflow, record.rules)["behaviour"] == record.behaviour_key
    said = f"run {record.run} ran the code that is here"
    if not same:
        said = f"run {record.run} ran other code or settings than are here; run `tickover shadow` again"
    hours = None if age is None else age.total_seconds() / 3600
    fresh = hours is not None and hours <= max_age_hours
    old = "no tick is compared yet" if hours is None else f"the newest comparison is {hours:.1f} h old"
    old += "" if fresh else f", {max_age_hours:g} h are allowed; run `tickover shadow` again"
    return [Check(name="evidence", passed=same, said=said), Check(name="freshness", passed=fresh, said=old)]


def state_check(workflow: Workflow, run: str, home: Path) -> Check:
    """Whether the state as it stands survives `write_state` and `read_state`, tried in a folder elsewhere: a rollback
    is made with both."""
    name = "round trip"
    if workflow.read_state is None or workflow.write_state is None:
        said = f"workflow {workflow.name} lacks read_state or write_state, without which there is no way back"
        return Check(name=name, passed=False, said=said, may_be_forced=False)
    try:
        state = state_now(workflow, run, home)
        with tempfile.TemporaryDirectory(prefix="tickover-round-trip-") as scratch:
            workflow.write_state(Path(scratch), state)
            back = normalise(workflow.read_state(Path(scratch)), workflow.normalise)
    except Exception as error:  # noqa: BLE001 - it is the user's code; what it raised is the finding
        said = f"read_state or write_state of {workflow.name} failed: {type(error).__name__}: {error}"
        return Check(name=name, passed=False, said=said, may_be_forced=False)
    if canonical_text(back) != canonical_text(state):
        said = (
            f"read_state of {workflow.name} does not give back what write_state was given: a rollback would lose it"
        )
        return Check(name=name, passed=False, said=said, may_be_forced=False)
    return Check(name=name, passed=True, said="the state survives write_state and read_state")


def state_now(workflow: Workflow, run: str, home: Path) -> Json:
    """The state from which the next tick of a run begins."""
    number, state = latest_state(run, workflow)
    if number == 0 and workflow.read_state is not None and has_content(home):
        return normalise(workflow.read_state(home), workflow.normalise)
    return state


def backup_check(folder: Path | None, home: Path) -> Check:
    """Whether there is place for a backup, which is made only when all is agreed on. folder: None for no backup."""
    if folder is None:
        said = "none is to be made (--no-backup), so nothing proves that state and database can be had again"
        return Check(name="backup", passed=False, said=said)
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    needed, said = switch_store.database_bytes() + size_of(home), ""
    if place == folder:
        said = f"{folder} exists; name a new folder with --backup"
    elif not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        said = f"{place} is no folder that this user may write to; name another with --backup"
    elif (free := shutil.disk_usage(place).free) < needed:
        said = f"{place} has {free / 1e6:.0f} MB free, {needed / 1e6:.0f} MB may be needed; name another (--backup)"
    good = f"{folder}, {needed / 1e6:.0f} MB at most, is made and restored once before the move"
    return Check(name="backup", passed=not said, said=said or good)
