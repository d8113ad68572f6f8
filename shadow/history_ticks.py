"""What a ledger says of ticks that count: claims, adoptions, states, deliveries, and the route they went by."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shadow.history_steps import Execution, Row, Steps
from shadow.ledger import Change
from shadow.violations import (
    Backwards,
    EffectDoubled,
    EffectLost,
    OwnerConflict,
    StaleCommit,
    StateBroken,
    TickMissing,
    TickStuck,
    TickTwice,
    TickUndone,
    Violation,
    WrittenApart,
)
from tickover.execution import Purpose, System

if TYPE_CHECKING:
    from shadow.history import Expected

Key = tuple[str, int]
LEGACY, ASYNC = System.LEGACY.value, System.ASYNC.value


class Ticks:
    """Follows ticks through a ledger, and notes what is broken on the way."""

    def __init__(self, expected: Mapping[str, Expected]) -> None:
        self.expected = expected
        self.violations: list[Violation] = []
        self.rows: dict[Key, Row] = {}
        self.states: dict[Key, str] = {}
        self.outbox: dict[Key, dict[tuple[str, str], Row]] = defaultdict(dict)
        self._last_state: dict[str, int] = {}
        self._epoch = 0
        self._in_charge = LEGACY

    def owners(self) -> dict[str, int]:
        """Owner -> how many ticks it has."""
        return Counter(row["owner"] for (run, _), row in self.rows.items() if run in self.expected)

    def commit(self, changes: Sequence[Change], executions: Mapping[int, Execution]) -> None:
        """Follow one transaction. executions: those known after it."""
        adopted: set[Key] = set()
        stated: dict[Key, int] = {}
        entered: dict[Key, int] = {}
        for change in changes:
            row = change.new or change.old or {}
            if change.relation == "route":
                self._route(change, row)
                continue
            if row.get("run") not in self.expected:
                continue
            key = (row["run"], row["tick"])
            if change.relation == "ticks" and self._tick(key, change, row):
                adopted.add(key)
            elif change.relation == "states":
                stated[key] = change.commit
                self._state(key, change, row)
            elif change.relation == "outbox":
                if change.operation == "insert":
                    entered[key] = change.commit
                self._outbox(key, change, row)
            elif change.relation == "workflows" and change.operation == "insert":
                self._began(key, row)
        number = changes[0].commit
        for key in adopted - stated.keys():
            self._add(WrittenApart, key, what="it was adopted without its state", commit=number)
        for key in stated.keys() - adopted:
            self._add(WrittenApart, key, what="its state was written without its adoption", commit=number)
        for key in entered.keys() - adopted:
            self._add(WrittenApart, key, what="effects entered the outbox without its adoption", commit=number)

    def _add(self, kind: type[Violation], key: Key, **what: Any) -> None:
        self.violations.append(kind(run=key[0], tick=key[1], **what))

    def _route(self, change: Change, row: Row) -> None:
        if change.operation not in ("found", "update") or (change.old and row["epoch"] < change.old["epoch"]):
            self._add(Backwards, ("route", row["epoch"]), what="the route's epoch", commit=change.commit)
        if change.old and row["owner"] != change.old["owner"] and row["epoch"] <= change.old["epoch"]:
            what = f"the route went from {change.old['owner']} to {row['owner']} within an epoch"
            self._add(Backwards, ("route", row["epoch"]), what=what, commit=change.commit)
        self._epoch, self._in_charge = row["epoch"], row["owner"]

    def _tick(self, key: Key, change: Change, row: Row) -> bool:
        """Whether the change adopted the tick."""
        old = change.old
        if change.operation == "delete":
            self._add(Backwards, key, what="the tick was deleted", commit=change.commit)
            return False
        self.rows[key] = row
        if old is not None and old["adopted_at"] is not None:
            if row["adopted_at"] != old["adopted_at"]:
                self._add(TickTwice, key, what="adopted", times=2)
                return row["adopted_at"] is not None
            self._add(Backwards, key, what="the tick was changed after its adoption", commit=change.commit)
            return False
        if row["epoch"] != self._epoch:
            deed = "claimed" if row["adopted_at"] is None else "adopted"
            self._add(
                StaleCommit, key, what=f"{deed} it under epoch {row['epoch']}", fence=f"epoch {self._epoch}",
                commit=change.commit,
            )  # fmt: skip
        if row["adopted_at"] is None:
            self._claim(key, old, row)
            return False
        if old is None or not change.presented:
            held = f"token {old['runner_token']}" if old else "no claim"
            self._add(StaleCommit, key, what="adopted it", fence=held, commit=change.commit)
        return True

    def _claim(self, key: Key, old: Row | None, row: Row) -> None:
        in_charge = self._in_charge if self.expected[key[0]].legacy_is_there else ASYNC
        if old is not None and old["owner"] == LEGACY and self.expected[key[0]].legacy_is_there:
            due = LEGACY
        elif old is not None and old["epoch"] == row["epoch"]:
            due = old["owner"]
        else:
            due = in_charge
        if row["owner"] != due:
            before = f", after {old['owner']} under epoch {old['epoch']}" if old else ""
            what = f"it was given to {row['owner']} under epoch {row['epoch']}{before}, and was {due}'s"
            self._add(OwnerConflict, key, what=what)

    def _state(self, key: Key, change: Change, row: Row) -> None:
        run, tick = key
        if change.operation != "insert":
            self._add(Backwards, key, what=f"its state was {change.operation}d", commit=change.commit)
            return
        last = self._last_state.get(run)
        if last is not None and tick != last + 1:
            self._add(Backwards, key, what=f"its state follows that of tick {last}", commit=change.commit)
        self._last_state[run] = tick
        self.states[key] = row["document"]

    def _began(self, key: Key, row: Row) -> None:
        before = self.states.get((key[0], key[1] - 1))
        counts = (row["system"], row["purpose"]) == (ASYNC, Purpose.CONTROL.value)
        if counts and before is not None and row["state"] != before:
            self._add(StateBroken, key, owner=ASYNC, before=before, began_with=row["state"])

    def _outbox(self, key: Key, change: Change, row: Row) -> None:
        if change.operation == "delete":
            self._add(EffectLost, key, effect=row["key"], place="from the outbox: it was deleted")
            return
        place = (row["step"], row["key"])
        if change.operation == "update" and change.old is not None:
            kept = ("step", "key", "kind", "payload", "position", "number")
            if any(change.old[name] != row[name] for name in kept) or change.old["delivered_at"] is not None:
                self._add(Backwards, key, what=f"effect {row['key']} in the outbox", commit=change.commit)
        self.outbox[key][place] = row

    def at_the_end(self, expected: Expected, steps: Steps) -> Iterable[Violation]:
        """What stands wrong with the ticks of a run when all is over."""
        for tick in sorted(expected.ticks):
            key = (expected.run, tick)
            row = self.rows.get(key)
            if row is None:
                yield TickMissing(run=key[0], tick=tick)
                continue
            executions = steps.controls(*key)
            if row["adopted_at"] is None:
                standing = "; ".join(each.standing() for each in executions) or "it was claimed and never ended"
                yield TickStuck(run=key[0], tick=tick, standing=f"{row['owner']} owns it, {standing}")
                continue
            if row["outcome"] not in expected.outcomes:
                reason = executions[0].error if executions and row["owner"] == ASYNC else None
                yield TickUndone(run=key[0], tick=tick, outcome=row["outcome"], reason=reason)
            if row["owner"] == LEGACY:
                if self.outbox.get(key):
                    yield OwnerConflict(
                        run=key[0], tick=tick, what="it is legacy's, and async's effects were adopted"
                    )
                continue
            mine = [each for each in executions if each.row["execution_id"] == row["execution_id"]]
            if not mine or (mine[0].status != row["outcome"]):
                stands = mine[0].status if mine else "not there"
                what = f"adopted as {row['outcome']}, its execution is {stands}"
                yield OwnerConflict(run=key[0], tick=tick, what=what)
                continue
            yield from self._effects(key, mine[0], expected)

    def _effects(self, key: Key, execution: Execution, expected: Expected) -> Iterable[Violation]:
        run, tick = key
        declared = {(row["step"], row["key"]): row for row in execution.effects.values()}
        if execution.status != "done":
            declared = {}
        entered = self.outbox.get(key, {})
        for place in declared.keys() - entered.keys():
            yield EffectLost(run=run, tick=tick, effect=place[1], place="from the outbox")
        for place in entered.keys() - declared.keys():
            yield EffectDoubled(run=run, tick=tick, effect=place[1], what="it is in the outbox, and was not declared")
        for place in entered.keys() & declared.keys():
            payloads = {row["payload"] for row in execution.effects.values() if (row["step"], row["key"]) == place}
            if entered[place]["payload"] not in payloads:
                yield EffectDoubled(run=run, tick=tick, effect=place[1], what="the outbox has another payload")
            if expected.delivered and entered[place]["delivered_at"] is None:
                yield EffectLost(run=run, tick=tick, effect=place[1], place="from delivery: it still waits")
