"""The backup before a switchover: the old system's home and the database, of one moment, each restored once."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from async_tick.adoption import latest_state, owner_of
from async_tick.route import between_ticks
from tickover.canonical import Json, canonical_text, normalise
from tickover.errors import ConfigurationError
from tickover.execution import System
from tickover.ground.backup import BackupUnsound, back_up, prove
from tickover.ground.copying import copy_folder
from tickover.workflow import Workflow

HOME, DATABASE, HOW = "home", "database", "restore.txt"
_HOW = """How to have this back
1. Stop `tickover serve`, and workers.
2. The old system's home: move {home} away, and copy the folder {folder} there.
3. The database: `tickover db restore {database}`,
   with DATABASE_URL naming an empty database, or TICKOVER_DATA_DIR a new folder.
Both are of one moment between two ticks: before tick {tick} of run {run}.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class SwitchBackup:
    """A proved backup; immutable. tick: the next one at its moment. rows: of the database. note: what is to be known
    of the home, or None."""

    folder: Path
    tick: int
    rows: int
    note: str | None


def make(url: str, workflow: Workflow, run: str, home: Path, folder: Path) -> SwitchBackup:
    """Back up home and database, and restore both once, elsewhere. The folder appears only when all is proved.

    Most of the home is copied beforehand; only what has changed since is copied while no tick of the old system may
    begin. Raises NoBoundary, BackupUnsound, ConfigurationError, InfrastructureError; nothing is left then.
    """
    draft = folder.with_name(f"{folder.name}.draft")
    try:
        draft.mkdir(parents=True)
    except OSError as error:
        raise ConfigurationError(
            f"{folder.parent} cannot be written: {error.strerror}; name another folder with --backup"
        ) from error
    try:
        known = copy_folder(home, draft / HOME) if home.is_dir() else {}
        with contextlib.ExitStack() as still:
            connection = still.enter_context(between_ticks())
            if home.is_dir():
                copy_folder(home, draft / HOME, known)
            tick, state = latest_state(run, workflow, connection)
            owned = tick > 0 and owner_of(run, tick - 1, connection) is System.LEGACY
            made = back_up(url, draft / DATABASE, at_snapshot=still.close)
        prove(url, draft / DATABASE)
        note = _prove_home(workflow, draft / HOME, state if owned else None)
        how = _HOW.format(home=home, folder=folder / HOME, database=folder / DATABASE, tick=tick, run=run)
        (draft / HOW).write_text(how, encoding="utf-8")
        draft.rename(folder)
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        if isinstance(error, OSError):
            raise ConfigurationError(f"cannot back up to {folder}: {error}; name another with --backup") from error
        raise
    return SwitchBackup(folder=folder, tick=tick, rows=sum(made.rows.values()), note=note)


def _prove_home(workflow: Workflow, copy: Path, expected: Json | None) -> str | None:
    """Restore a copied home once, and read its state; a note where that is not what the old system's last tick left.
    expected: that state, None where the home is not said to hold one. Raises BackupUnsound if it cannot be read."""
    if not copy.is_dir() or workflow.read_state is None:
        return "there was no home to copy"
    with tempfile.TemporaryDirectory(prefix="tickover-home-proof-") as scratch:
        restored = Path(scratch) / HOME
        copy_folder(copy, restored)
        try:
            found = normalise(workflow.read_state(restored), workflow.normalise)
        except Exception as error:
            raise BackupUnsound(
                f"the copy of the home cannot be read: {type(error).__name__}: {error}; run the command again"
            ) from error
    if expected is not None and canonical_text(found) != canonical_text(expected):
        return "the home holds something else than the last tick left: a late write of the old system, or a hand's"
    return None
