"""The history checker: one check that says of a whole run whether each promise was kept, from its ledger alone.

Each tick was done exactly once, by one owner, and none is stuck; no checkpoint went backwards; no effect was lost or
doubled; nothing was committed by anyone who had been fenced; each tick began with the state that the last one left.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from shadow.history_notes import Notes
from shadow.history_steps import Execution, Steps
from shadow.history_ticks import Ticks
from shadow.ledger import History
from shadow.violations import EffectDoubled, EffectLost, TickMissing, TickStuck, TickTwice, TickUndone, Violation

_DONE = frozenset({"done"})
# Violations that the text of a check shows; all are in its value.
_SHOWN = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """What must have become of a run; immutable.

    ticks: those that were due. adopted: whether a loop made them count; False for executions that were started by
    themselves. outcomes: those that a tick may have. effects: step -> how many effects each done execution of it
    declares; None if that is not known. delivered: whether nothing may wait for delivery any more. receives: kind of
    effect -> whether a receiver notes it in a notebook; None if none does. legacy_notes: whether the old system notes
    its ticks in a notebook. legacy_is_there: False after a finished migration.
    """

    run: str
    ticks: frozenset[int]
    adopted: bool = True
    outcomes: frozenset[str] = _DONE
    effects: Mapping[str, int] | None = None
    delivered: bool = True
    receives: Callable[[str], bool] | None = None
    legacy_notes: bool = False
    legacy_is_there: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """What a check found; immutable. recovered: steps that were taken from dead workers. repeated: deliveries that
    came again under their key, which is what a receiver must bear."""

    violations: tuple[Violation, ...]
    ticks: int = 0
    commits: int = 0
    steps_done: int = 0
    recovered: int = 0
    delivered: int = 0
    repeated: int = 0
    owners: Mapping[str, int] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """Whether nothing is broken."""
        return not self.violations

    def __str__(self) -> str:
        owners = ", ".join(f"{count} by {owner}" for owner, count in sorted(self.owners.items()))
        counts = (
            f"{self.ticks} ticks{f' ({owners})' if owners else ''}, {self.commits} commits, "
            f"{self.steps_done} steps done, {self.recovered} taken over, {self.delivered} effects delivered, "
            f"{self.repeated} of them again"
        )
        if self.sound:
            return f"{counts}: no promise is broken"
        more = len(self.violations) - _SHOWN
        rest = [f"and {more} more"] if more > 0 else []
        return "\n".join(
            [f"{counts}: {len(self.violations)} promises are broken", *map(str, self.violations[:_SHOWN]), *rest]
        )


def check(history: History, expected: Iterable[Expected]) -> Checked:
    """What a history says of the runs that are expected. Other runs in it are not looked at.

    It needs nothing but the history, and neither changes it nor asks any server.
    """
    wanted = {each.run: each for each in expected}
    steps, ticks = Steps(), Ticks(wanted)
    commits = 0
    for _, changes in itertools.groupby(history.changes, key=lambda change: change.commit):
        commits += 1
        together = tuple(changes)
        steps.commit(together)
        ticks.commit(together, steps.executions)
    violations = [each for each in (*steps.violations, *ticks.violations) if each.run in {*wanted, "route"}]
    for each in wanted.values():
        if each.adopted:
            violations += ticks.at_the_end(each, steps)
        violations += _executions(each, steps)
    notes = Notes(history.notes, ticks, steps)
    violations += notes.violations
    return Checked(
        violations=tuple(dict.fromkeys(violations)), ticks=sum(len(each.ticks) for each in wanted.values()),
        commits=commits, steps_done=steps.done, recovered=steps.recovered, delivered=notes.delivered,
        repeated=notes.repeated, owners=ticks.owners(),
    )  # fmt: skip


def _executions(expected: Expected, steps: Steps) -> Iterable[Violation]:
    """What stands wrong at the end with the executions of a run."""
    for tick in sorted(expected.ticks):
        found = steps.controls(expected.run, tick)
        where = {"run": expected.run, "tick": tick}
        if not expected.adopted:
            if not found:
                yield TickMissing(run=expected.run, tick=tick)
            for execution in found:
                if standing := execution.standing():
                    yield TickStuck(run=expected.run, tick=tick, standing=standing)
                elif execution.status not in expected.outcomes:
                    yield TickUndone(run=expected.run, tick=tick, outcome=execution.status, reason=execution.error)
        if len(found) > 1:
            yield TickTwice(run=expected.run, tick=tick, what="started", times=len(found))
        for execution in found:
            yield from _effects(expected, execution, where)


def _effects(expected: Expected, execution: Execution, where: Mapping[str, object]) -> Iterable[Violation]:
    run, tick = str(where["run"]), int(str(where["tick"]))
    for step, count in (expected.effects or {}).items():
        if step not in execution.checkpoints:
            continue
        found = sum(row["step"] == step for row in execution.effects.values())
        if found < count:
            yield EffectLost(
                run=run, tick=tick, effect=step, place=f"from its execution, which has {found} of {count}"
            )
        elif found > count:
            yield EffectDoubled(run=run, tick=tick, effect=step, what=f"its execution has {found} instead of {count}")
