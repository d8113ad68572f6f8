"""Old runs removed: which of them may go, and why the others stay."""

from __future__ import annotations

import datetime as dt
import shutil
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from shadow.prune_store import Aged, PruneStore
from shadow.store import RunBusy, Store


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruning:
    """What is to become of the runs of a database, oldest first; immutable. kept: those that are old enough to go and
    stay, each with the reason."""

    going: tuple[Aged, ...]
    kept: tuple[tuple[Aged, str], ...]


def choose(runs: Sequence[Aged], before: dt.datetime, *, with_latest: bool = False) -> Pruning:
    """Which runs go: those whose last activity lies before that instant, and that nothing rests on. Pure.

    A version's runs and drills hold its READY up together, so a run stays for as long as another one of its version
    does: what spoke against a version must not be pruned away from beside what speaks for it.
    """
    ordered = sorted(runs, key=lambda run: (run.started_at, run.run))
    latest = ordered[-1].run if ordered and not with_latest else None
    why = {run.run: _why(run, before, latest) for run in ordered}
    staying: dict[str, str] = {}
    for run in ordered:
        if why[run.run] is not None:
            staying.setdefault(run.behaviour_key, run.run)
    going, kept = [], []
    for run in ordered:
        reason = why[run.run]
        if reason is None and run.behaviour_key in staying:
            reason = f"is evidence of the same version as run {staying[run.behaviour_key]}, which stays"
        if reason is None:
            going.append(run)
        elif run.active_at < before:
            kept.append((run, reason))
    return Pruning(going=tuple(going), kept=tuple(kept))


def _why(run: Aged, before: dt.datetime, latest: str | None) -> str | None:
    """Why a run stays whatever the others do; None: it may go."""
    if run.is_held:
        return "is held by a runner"
    if run.status == "running":
        return "has not ended: it runs, or its runner was killed and it can be gone on with"
    if run.active_at >= before:
        return "is not old enough"
    if run.switchovers:
        return f"is what the switchover to epoch {run.switchovers[-1]} rests on"
    if run.in_present_epoch:
        return "stands beside the loop in the route's present epoch"
    return "is the latest; --latest takes it too" if run.run == latest else None


def remove(store: Store, names: Iterable[str], before: dt.datetime, root: Path, *, with_latest: bool) -> list[str]:
    """Remove runs, each all or none, with the copies of the old system's home that it made under `root`; the names
    of those that are gone.

    What may go is decided again while nobody else can hold the run: whoever resumed one since keeps it.
    """
    rows, gone = PruneStore(store.engine), []
    for name in names:
        try:
            with store.hold(name, f"{socket.gethostname()} (prune)"):
                chosen = choose(rows.runs(held_by_us=name), before, with_latest=with_latest)
                if name not in {run.run for run in chosen.going}:
                    continue
                rows.delete(name)
        except RunBusy:
            continue
        gone.append(name)
        # A name is a plain one wherever a run was made by a command; a path must not lead anywhere else.
        if name and Path(name).name == name:
            shutil.rmtree(root / name, ignore_errors=True)
    return gone
