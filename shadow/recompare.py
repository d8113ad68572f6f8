"""Recomparing: what a run would look like under other rules. Hindsight: it is shown, never stored, and no verdict."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from shadow.compare import Comparison, Kind, judge, not_compared
from shadow.misses import find_misses
from shadow.rules import RuleBook
from shadow.store import RunRecord, Store
from tickover.execution import Purpose
from tickover.ground.tape_store import PostgresTapeStore


@dataclass(frozen=True, kw_only=True)
class Recomparison:
    """What other rules would say of a run; immutable. changed: tick -> (kind as stored, kind under these rules).
    hidden: rule -> ticks on which it hid something."""

    before: Counter[Kind]
    after: Counter[Kind]
    changed: dict[int, tuple[Kind, Kind]]
    hidden: Counter[str]


def recompare(store: Store, record: RunRecord, rules: RuleBook) -> Recomparison:
    """Judge every compared tick of a run again, from its stored observations and tape."""
    tape = PostgresTapeStore()
    before: Counter[Kind] = Counter()
    after: Counter[Kind] = Counter()
    hidden: Counter[str] = Counter()
    changed: dict[int, tuple[Kind, Kind]] = {}
    try:
        for tick in store.ticks(record.run):
            stored = store.comparison(record.run, tick.tick)
            if stored is None:
                continue
            was = Kind(stored["kind"])
            found = _again(store, record, tick.tick, tick.first, tape, rules) or not_compared("nothing to compare")
            now = found.kind if was is not Kind.NOT_COMPARED else was
            before[was] += 1
            after[now] += 1
            hidden.update(tolerance.rule for tolerance in found.tolerances)
            if now is not was:
                changed[tick.tick] = (was, now)
    finally:
        tape.close()
    return Recomparison(before=before, after=after, changed=changed, hidden=hidden)


def _again(
    store: Store, record: RunRecord, tick: int, began: str, tape: PostgresTapeStore, rules: RuleBook
) -> Comparison | None:
    seen = store.observations(record.run, tick)
    control, candidate = seen.get(Purpose.CONTROL), seen.get(Purpose.CANDIDATE)
    if control is None or candidate is None:
        return None
    control, candidate = rules.redact(control), rules.redact(candidate)
    entries = tape.of_tick(record.run, tick)
    first, second = (candidate, control) if began == candidate.system.value else (control, candidate)
    reference = seen.get(Purpose.REFERENCE)
    misses = find_misses(entries, first, second, record.graph)
    if reference is not None:
        misses = tuple(miss for miss in misses if not miss.by_control)
    missed = any(
        entry.missed and entry.execution_id is not None and f"/{Purpose.REFERENCE.value}/" in entry.execution_id
        for entry in entries
    )
    return judge(
        control, candidate, record.graph, misses=misses, rules=rules, reference_missed=missed,
        reference=None if reference is None else rules.redact(reference),
    )  # fmt: skip
