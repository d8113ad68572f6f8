"""What notebooks say, against what the database has: receivers, the old system, and whoever was told of ends."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from shadow.history_steps import Steps
from shadow.history_ticks import ASYNC, LEGACY, Key, Ticks
from shadow.ledger import Note
from shadow.violations import (
    CommitLost,
    EffectDoubled,
    EffectLost,
    OwnerConflict,
    StateBroken,
    TickTwice,
    Violation,
)

# What became of a tick that the old system had begun when its runner died: it is not run again.
_LOST = "lost"


class Notes:
    """The notes of a history, checked on construction against the ticks that its commits left."""

    def __init__(self, notes: Iterable[Note], ticks: Ticks, steps: Steps) -> None:
        self.violations: list[Violation] = []
        self.delivered = 0
        self.repeated = 0
        self._ticks, self._steps = ticks, steps
        self._receipts: dict[str, list[Note]] = defaultdict(list)
        self._by_kind: dict[str, dict[Key, list[Note]]] = defaultdict(lambda: defaultdict(list))
        for note in notes:
            if note.key is not None:
                self._receipts[note.key].append(note)
            elif note.run in ticks.expected and note.run is not None and note.tick is not None:
                self._by_kind[note.kind][note.run, note.tick].append(note)
        self._check_receipts()
        self._check_told()
        self._check_legacy()

    def _add(self, kind: type[Violation], key: Key, **what: Any) -> None:
        self.violations.append(kind(run=key[0], tick=key[1], **what))

    def _check_receipts(self) -> None:
        payloads: dict[str, set[str]] = defaultdict(set)
        for (run, tick), entered in self._ticks.outbox.items():
            receives = self._ticks.expected[run].receives
            for row in entered.values():
                name = f"{run}/{row['key']}"
                payloads[name].add(row["payload"])
                waits = row["delivered_at"] is None
                if receives is not None and receives(row["kind"]) and name not in self._receipts and not waits:
                    self._add(
                        EffectLost, (run, tick), effect=row["key"], place="at its receiver, and counts as delivered"
                    )
        for name, receipts in self._receipts.items():
            run, _, key = name.partition("/")
            if run not in self._ticks.expected:
                continue
            self.delivered += len(receipts)
            self.repeated += len(receipts) - len({note.payload for note in receipts})
            tick = int(key.partition("/")[0]) if key.partition("/")[0].isdecimal() else -1
            if name not in payloads:
                self._add(
                    EffectDoubled, (run, tick), effect=key, what="a receiver got it, and no tick that counts made it"
                )
            elif {note.payload for note in receipts} - payloads[name]:
                self._add(
                    EffectDoubled, (run, tick), effect=key, what="a receiver got another payload than was adopted"
                )

    def _check_told(self) -> None:
        for key, notes in self._by_kind["told"].items():
            if len(notes) > 1:
                self._add(TickTwice, key, what="told to be over", times=len(notes))
            for note in notes:
                told, found = f"{note.outcome} by {note.owner}", self._standing(key)
                if told != found:
                    self._add(CommitLost, key, told=told, found=found)

    def _standing(self, key: Key) -> str:
        """How the database has a tick at the end."""
        if not self._ticks.expected[key[0]].adopted:
            executions = self._steps.controls(*key)
            return f"{executions[0].status} by {ASYNC}" if executions else "not begun"
        row = self._ticks.rows.get(key)
        if row is None:
            return "not begun"
        return f"{'not over' if row['adopted_at'] is None else row['outcome']} by {row['owner']}"

    def _check_legacy(self) -> None:
        began, ended = self._by_kind["legacy-began"], self._by_kind["legacy-ended"]
        for key, notes in began.items():
            if len(notes) > 1:
                self._add(TickTwice, key, what="begun by the old system", times=len(notes))
            row = self._ticks.rows.get(key)
            if row is None or row["owner"] != LEGACY:
                owner = row["owner"] if row is not None else "nobody"
                self._add(OwnerConflict, key, what=f"the old system ran it, and {owner} owns it")
            before = self._ticks.states.get((key[0], key[1] - 1))
            for note in notes:
                if note.state is not None and before is not None and note.state != before:
                    self._add(StateBroken, key, owner=LEGACY, before=before, began_with=note.state)
        for key, row in self._ticks.rows.items():
            expected = self._ticks.expected[key[0]]
            if row["owner"] != LEGACY or not expected.legacy_notes or row["adopted_at"] is None:
                continue
            if row["outcome"] != _LOST and not (began.get(key) and ended.get(key)):
                deed = "ended" if began.get(key) else "began"
                self._add(
                    OwnerConflict, key, what=f"it is legacy's, {row['outcome']}, and the old system never {deed} it"
                )
