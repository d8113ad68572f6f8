"""A stored verdict computed again: from what was stored with it, and from the ticks themselves."""

from __future__ import annotations

import dataclasses
import datetime as dt
from dataclasses import dataclass
from typing import Any

from reports.evidence import gather, read_counts, run_state
from reports.tally import evidence_from_json
from reports.verdict_store import NoVerdict, Stored, VerdictStore, verify
from shadow.store import Store, UnknownRun
from tickover import __version__
from tickover.canonical import canonical_text, parse
from tickover.errors import ConfigurationError


class RunPruned(ConfigurationError):
    """A run is no longer there, but a verdict of it is, which cannot be verified without its ticks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """What came of computing a verdict again; immutable. differs: what is not as it was stored, each a sentence.
    ticks_since: compared after the verdict was given; then the ticks are not recounted. trials_since: of drills that
    were begun after it; then the drills are not recounted. status_since: the run's, if it is another one
    by now."""

    stored: Stored
    differs: tuple[str, ...]
    ticks_since: int
    trials_since: int = 0
    status_since: str | None = None


def verify_run(store: Store, run: str | None) -> Verified:
    """The latest stored verdict of a run (None: the latest run), computed again. Raises UnknownRun, NoVerdict,
    RunPruned."""
    try:
        record = store.run(run)
    except UnknownRun:
        if run is not None:
            _refuse_pruned(store, run)
        raise
    stored = VerdictStore(store.engine).latest(record.run)
    differs = verify(stored)
    counts = read_counts(store, record, stored.policy)
    # Rules that have expired since then held when the verdict was given.
    day = stored.created_at.astimezone(dt.UTC).date()
    fresh = gather(record, stored.policy, run_state(store, record, counts), counts, on=day)
    since = fresh.started - stored.evidence.started
    trials = sum(kind.n for kind in fresh.faults.values()) - sum(kind.n for kind in stored.evidence.faults.values())
    if trials > 0:
        fresh = dataclasses.replace(fresh, faults=stored.evidence.faults)
    status_since = None
    if since == 0 and fresh.status != stored.evidence.status:
        # Runs end, and loops pause, without a tick more: that is told, and no difference of figures.
        status_since = fresh.status
        fresh = dataclasses.replace(fresh, status=stored.evidence.status)
    if since == 0:
        # What is known of noise may grow apart from the ticks; it is told by its own name.
        again = evidence_from_json(parse(canonical_text(fresh.to_json())))
        differs += _differences(stored.evidence, again)
    return Verified(
        stored=stored, differs=tuple(differs), ticks_since=since, trials_since=max(0, trials),
        status_since=status_since,
    )  # fmt: skip


def _refuse_pruned(store: Store, run: str) -> None:
    """Raise RunPruned if a verdict of this run is stored."""
    try:
        stored = VerdictStore(store.engine).latest(run)
    except NoVerdict:
        return
    differs = verify(stored)
    figures = "differ from" if differs else "are those of"
    raise RunPruned(
        f"verdict {stored.number} of run {run} ({stored.status.value} under policy {stored.policy_name}, given "
        f"{stored.created_at:%Y-%m-%d %H:%M} UTC) cannot be verified any more: the run was removed, and with it the "
        f"ticks that would be counted again; computed again from the counts stored with it, its figures {figures} "
        "what was stored. `tickover runs` lists the runs that are there"
    )


def _differences(stored: Any, fresh: Any) -> list[str]:
    return [
        f"counted again, {each.name} is {getattr(fresh, each.name)!r} and was {getattr(stored, each.name)!r}"
        for each in dataclasses.fields(stored)
        if getattr(stored, each.name) != getattr(fresh, each.name)
    ]


def render(found: Verified) -> str:
    """The outcome as text for a terminal."""
    stored = found.stored
    lines = [
        f"Verdict {stored.number} of run {stored.run}: {stored.status.value} under policy {stored.policy_name}, "
        f"given {stored.created_at:%Y-%m-%d %H:%M:%S} UTC by Tickover {stored.version}"
    ]
    if stored.version != __version__:
        lines.append(f"computed again by Tickover {__version__}")
    if found.ticks_since:
        lines.append(f"{found.ticks_since} ticks were compared since, so the ticks were not recounted")
    else:
        lines.append(f"all {stored.evidence.started} ticks were counted again")
    if found.status_since:
        lines.append(f"the run was {stored.evidence.status} then and is {found.status_since} now")
    if found.trials_since:
        lines.append(f"{found.trials_since} trials of drills were begun since, so the drills were not recounted")
    lines += [f"  {difference[:300]}" for difference in found.differs]
    lines.append("it is NOT what was stored" if found.differs else "it is the same, figure by figure")
    return "\n".join(lines)
