"""What a finished migration leaves over: what can be deleted, how, and from when on. It deletes nothing."""

from __future__ import annotations

import datetime as dt
import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text

import reports.models
import shadow.models
from async_tick.route import Route
from shadow.switch_store import Basis
from tickover.execution import System
from tickover.ground.copying import size_of
from tickover.ground.database import Base
from tickover.workflow import Workflow

# A record of what was decided, small, and not made anew by anything.
_KEPT_TABLES = {"switchovers"}
# Candidates, noise, drills: executions that no tick of a loop is.
_OF_NO_TICK = "NOT EXISTS (SELECT FROM ticks t WHERE t.execution_id = w.execution_id)"
# What a workflow has for its old system alone.
_LEGACY_FIELDS = (
    "legacy", "legacy_env", "legacy_steps", "legacy_result", "legacy_effects", "read_state", "write_state"
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Leftover:
    """One thing that can be deleted; immutable. kind: code, tables, home, copies or backup. size_bytes: None where it
    has none. how: the command, or what to do by hand."""

    kind: str
    what: str
    how: str
    size_bytes: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Quiet:
    """The quiet period; immutable. over_at: when it is over, None while the old system is in charge."""

    since: dt.datetime
    hours: float
    over_at: dt.datetime | None

    def is_over(self, now: dt.datetime) -> bool:
        """Whether deleting may begin."""
        return self.over_at is not None and now >= self.over_at


def quiet_period(route: Route, basis: Basis | None, default_hours: float) -> Quiet:
    """When the quiet period since the switchover is over. basis: of that switchover, None if it is not known."""
    hours = basis.quiet_hours if basis is not None else default_hours
    over_at = route.changed_at + dt.timedelta(hours=hours) if route.owner is System.ASYNC else None
    return Quiet(since=route.changed_at, hours=hours, over_at=over_at)


def leftovers(
    engine: Engine, workflow: Workflow, workload: str, data_dir: Path, homes: Iterable[Path], bases: Iterable[Basis]
) -> list[Leftover]:
    """All that only the old system, the comparison or a rollback needs. homes: of the old system. bases: of all
    switchovers."""
    return [
        *_code(workflow, workload),
        *_tables(engine),
        *_folders(data_dir, homes),
        *_backups(data_dir, bases),
    ]


def _code(workflow: Workflow, workload: str) -> list[Leftover]:
    module = workload.partition(":")[0]
    named = [name for name in _LEGACY_FIELDS if getattr(workflow, name)]
    found = [_legacy(workflow), _package("shadow"), _package("reports")]
    edit = f"remove {', '.join(named)} from the Workflow in {module}"
    return [*(each for each in found if each is not None), Leftover(kind="code", what=workload, how=edit)]


def _legacy(workflow: Workflow) -> Leftover | None:
    """The module that names the old system's callable: what else only it uses, its owner knows."""
    if not isinstance(workflow.legacy, str):
        return None
    module = workflow.legacy.partition(":")[0]
    try:
        # The being's old system is a package of its own, and nothing else is in it.
        found = _package("legacy" if module.startswith("legacy.") else module)
    except ModuleNotFoundError:
        return None
    return None if found is None else replace(found, how=f"{found.how}, and what only it uses")


def _package(name: str) -> Leftover | None:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin)
    path = path.parent if path.name == "__init__.py" else path
    if "site-packages" in path.parts:
        return Leftover(kind="code", what=str(path), how="leave it: it belongs to an installed package")
    remove = "rm -r" if path.is_dir() else "rm"
    size = size_of(path) if path.is_dir() else path.stat().st_size
    return Leftover(kind="code", what=str(path), how=f"git {remove} {path}, or {remove} {path}", size_bytes=size)


def _tables(engine: Engine) -> list[Leftover]:
    """Emptied, not dropped: what is empty costs nothing, and a later `db upgrade` finds what it expects."""
    modules = {reports.models.__name__, shadow.models.__name__}
    names = sorted(
        str(mapper.class_.__tablename__)
        for mapper in Base.registry.mappers
        if mapper.class_.__module__ in modules and mapper.class_.__tablename__ not in _KEPT_TABLES
    )
    sizes = text("SELECT sum(pg_total_relation_size(to_regclass(name))) FROM unnest(CAST(:names AS text[])) name")
    trials = text(f"SELECT count(*) FROM workflows w WHERE {_OF_NO_TICK}")
    with engine.connect() as connection:
        size, others = connection.execute(sizes, {"names": names}).scalar(), connection.execute(trials).scalar()
    return [
        Leftover(
            kind="tables", what=", ".join(names), size_bytes=int(size or 0),
            how=f"""psql "$DATABASE_URL" -c 'TRUNCATE {", ".join(names)}'""",
        ),
        Leftover(
            kind="tables", what=f"{others} executions that counted for nothing, in workflows and what belongs to it",
            how=f"""psql "$DATABASE_URL" -c 'DELETE FROM workflows w WHERE {_OF_NO_TICK}'""",
        ),
    ]  # fmt: skip


def _folders(data_dir: Path, homes: Iterable[Path]) -> list[Leftover]:
    found = [
        Leftover(
            kind="home", what=str(home), size_bytes=size_of(home),
            how="delete the old system's store in it by hand; effects of the new system are delivered here as well",
        )
        for home in homes
        if home.is_dir()
    ]  # fmt: skip
    copies = data_dir / "runs"
    if copies.is_dir():
        found.append(Leftover(kind="copies", what=str(copies), how=f"rm -r {copies}", size_bytes=size_of(copies)))
    return found


def _backups(data_dir: Path, bases: Iterable[Basis]) -> list[Leftover]:
    own = data_dir / "backups"
    folders = {Path(basis.backup) for basis in bases if basis.backup is not None}
    folders |= set(own.iterdir()) if own.is_dir() else set()
    return [
        Leftover(kind="backup", what=str(folder), how=f"rm -r {folder}", size_bytes=size_of(folder))
        for folder in sorted(folders)
        if folder.is_dir()
    ]


def to_json(route: Route, quiet: Quiet, found: Iterable[Leftover], now: dt.datetime) -> Mapping[str, Any]:
    """All of it as a JSON document."""
    return {
        "owner": route.owner.value, "since": quiet.since.isoformat(timespec="seconds"), "quiet_hours": quiet.hours,
        "over_at": None if quiet.over_at is None else quiet.over_at.isoformat(timespec="seconds"),
        "is_over": quiet.is_over(now), "leftovers": [asdict(each) for each in found],
    }  # fmt: skip
