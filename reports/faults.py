"""Drills as evidence: of every drill with a run's behaviour, whatever time scale it was made at."""

from __future__ import annotations

from collections.abc import Iterable

from reports.model import FaultFacts
from reports.policy import Policy
from reports.tally import FaultTrials, Pairs
from shadow.drill_store import DrillStore, KindCounts
from shadow.faults import KINDS
from shadow.store import RunRecord, Store
from tickover.execution import System


def fault_counts(store: Store, record: RunRecord, policy: Policy) -> tuple[KindCounts, ...]:
    """The drills of a run's behaviour, by kind of fault. Where the policy asks for drills, a kind that can be drilled
    and was not stands there without any, so that its absence shows."""
    drills = DrillStore(store.engine)
    within_s = policy.recovered_in_time.within_s
    found = {kind.kind: kind for kind in drills.counts(record.behaviour_key, record.plan.candidate, within_s)}
    found = {name: kind for name, kind in found.items() if kind.new_n}
    if policy.gates.trials_per_fault:
        of_new, has_calls = record.plan.candidate is System.ASYNC, drills.has_calls(record.run)
        for name, kind in KINDS.items():
            if (of_new or kind.on_legacy) and (has_calls or kind.steps != "with port calls"):
                found.setdefault(name, KindCounts(kind=name))
    return tuple(found[name] for name in sorted(found))


def fault_trials(counts: Iterable[KindCounts]) -> dict[str, FaultTrials]:
    """The counts as evidence."""
    return {kind.kind: _trials(kind) for kind in counts}


def fault_facts(counts: Iterable[KindCounts]) -> tuple[FaultFacts, ...]:
    """The counts for people."""
    return tuple(
        FaultFacts(
            kind=kind.kind, trials=kind.new_n, control_recovered=kind.old_recovered if kind.old_n else None,
            candidate_recovered=kind.new_recovered, control_s=kind.old_s, candidate_s=kind.new_s, lost=kind.lost,
            duplicated=kind.doubled,
        )
        for kind in counts
        if kind.new_n
    )  # fmt: skip


def _trials(kind: KindCounts) -> FaultTrials:
    n, new_only, old_only = kind.pairs
    return FaultTrials(
        n=kind.new_n, not_recovered=kind.new_n - kind.new_recovered, late=kind.late, lost=kind.lost,
        doubled=kind.doubled, against_old=Pairs(n=n, new_only=new_only, old_only=old_only),
    )  # fmt: skip
