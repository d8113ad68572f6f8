"""Histories made by hand: what the ledger would have of a run, commit by commit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from shadow.history import Checked, Expected, check
from shadow.ledger import Change, History, Note
from shadow.violations import Violation

RUN = "r"
STEPS: Mapping[str, list[str]] = {"think": [], "act": ["think"]}


def mark(text: str) -> str:
    """A digest, as the ledger has them."""
    return hashlib.sha256(text.encode()).hexdigest()


class Story:
    """A run as it is written down. Each method is one commit, or one note, and keeps every promise by default."""

    def __init__(self, owner: str = "async", epoch: int = 1) -> None:
        self.changes: list[Change] = []
        self.notes: list[Note] = []
        self.rows: dict[tuple[Any, ...], dict[str, Any]] = {}
        self.number = 0
        self.commit(("route", "found", None, {"owner": owner, "epoch": epoch}))
        self.route = {"owner": owner, "epoch": epoch}

    def commit(self, *changes: tuple[Any, ...]) -> None:
        """One transaction of (relation, operation, old, new[, presented[, caller]])."""
        self.number += 1
        self.changes += [
            Change(
                commit=self.number, relation=relation, operation=operation, old=old, new=new,
                presented=bool(more and more[0]), caller=more[1] if len(more) > 1 else None,
            )
            for relation, operation, old, new, *more in changes
        ]  # fmt: skip

    def changed(
        self, relation: str, at: tuple[Any, ...], presented: bool = False, caller: Any = None, **new: Any
    ) -> Any:
        """The change of a row that is remembered."""
        old = self.rows.get((relation, *at))
        row = {**(old or {}), **new}
        self.rows[(relation, *at)] = row
        return (relation, "update" if old else "insert", old, row, presented, caller)

    def begin(self, tick: int, state: str | None = None, **more: Any) -> None:
        """An execution of the new system starts."""
        begun = mark(f"state {tick - 1}") if state is None else state
        self.commit(
            self.changed(
                "workflows", (tick,),
                **{"id": tick, "execution_id": f"{RUN}/{tick}/async/control/1", "run": RUN, "tick": tick,
                   "system": "async", "purpose": "control", "state": begun, "status": "running", "error": None,
                   **more},
            ),
            *(
                self.changed("step_runs", (tick, step), workflow_id=tick, step=step, needs=needs, token=None,
                             owner=None, status="waiting" if needs else "ready")
                for step, needs in STEPS.items()
            ),
        )  # fmt: skip

    def claim(self, tick: int, step: str, token: str = "t1") -> None:
        """A worker takes a step."""
        self.commit(self.step(tick, step, "running", token=f"{token}-{tick}-{step}", owner=7))

    def step(self, tick: int, step: str, status: str, **more: Any) -> Any:
        """The change of a step's status."""
        return self.changed("step_runs", (tick, step), **{"status": status, **more})

    def end(self, tick: int, step: str, *, presented: bool = True, caller: str = "tickover_complete") -> None:
        """A worker finishes a step, with its checkpoint and its effect."""
        self.commit(*self.ending(tick, step, presented=presented, caller=caller))

    def ending(self, tick: int, step: str, **more: Any) -> list[Any]:
        """The changes of the end of a step."""
        changes = [
            self.step(tick, step, "done", token=None, owner=None, **more),
            ("workflow_checkpoints", "insert", None, {"workflow_id": tick, "stage": step, "tick_number": tick}),
            ("effects", "insert", None, self.effect(tick, step)),
        ]
        after = [other for other, needs in STEPS.items() if needs == [step]]
        last = [self.changed("workflows", (tick,), status="done")] if not after else []
        return [*changes, *(self.step(tick, other, "ready") for other in after), *last]

    def effect(self, tick: int, step: str) -> dict[str, Any]:
        """An effect of a step."""
        return {"workflow_id": tick, "step": step, "position": list(STEPS).index(step), "number": 0, "kind": "k",
                "key": f"{tick}/{step}/k/0", "payload": mark(f"{tick} {step}")}  # fmt: skip

    def take(self, tick: int, owner: str | None = None, token: str = "run", **more: Any) -> None:
        """A runner takes charge of a tick."""
        self.commit(
            self.changed(
                "ticks", (tick,),
                **{"run": RUN, "tick": tick, "owner": owner or self.route["owner"], "epoch": self.route["epoch"],
                   "runner_token": token, "execution_id": f"{RUN}/{tick}/async/control/1", "outcome": None,
                   "adopted_at": None, **more},
            )
        )  # fmt: skip

    def adopt(self, tick: int, outcome: str = "done", **more: Any) -> None:
        """The tick counts from here."""
        self.commit(*self.adoption(tick, outcome, **more))

    def adoption(self, tick: int, outcome: str = "done", presented: bool = True, **more: Any) -> list[Any]:
        """The changes of an adoption."""
        new = {"outcome": outcome, "adopted_at": "now", **more}
        changes = [
            self.changed("ticks", (tick,), presented=presented, **new),
            ("states", "insert", None, {"run": RUN, "tick": tick, "document": mark(f"state {tick}")}),
        ]
        if self.rows["ticks", tick]["owner"] == "async":
            changes += [self.entry(tick, step) for step in STEPS]
        return changes

    def entry(self, tick: int, step: str) -> Any:
        """An effect enters the outbox."""
        effect = {name: value for name, value in self.effect(tick, step).items() if name != "workflow_id"}
        return self.changed("outbox", (tick, step), **{**effect, "run": RUN, "tick": tick, "delivered_at": None})

    def deliver(self, tick: int, step: str) -> None:
        """A receiver gets an effect, and that is marked."""
        self.receipt(tick, step)
        self.commit(self.changed("outbox", (tick, step), delivered_at="now"))

    def receipt(self, tick: int, step: str, payload: str | None = None) -> None:
        """A receiver gets an effect."""
        effect = self.effect(tick, step)
        self.notes.append(Note(kind="delivered", key=f"{RUN}/{effect['key']}", payload=payload or effect["payload"]))

    def told(self, tick: int, outcome: str = "done", owner: str | None = None) -> None:
        """Somebody is told that a tick is over."""
        owner = owner or self.rows["ticks", tick]["owner"]
        self.notes.append(Note(kind="told", run=RUN, tick=tick, owner=owner, outcome=outcome))

    def steps(self, tick: int) -> None:
        """All steps of a tick, claimed and done."""
        for step in STEPS:
            self.claim(tick, step)
            self.end(tick, step)

    def async_tick(self, tick: int) -> None:
        """A whole tick of the new system."""
        self.take(tick)
        self.begin(tick)
        self.steps(tick)
        self.adopt(tick)
        for step in STEPS:
            self.deliver(tick, step)
        self.told(tick)

    def legacy(self, tick: int, state: str | None = None, *, ends: bool = True) -> None:
        """The old system runs a tick."""
        self.notes.append(Note(kind="legacy-began", run=RUN, tick=tick, state=state or mark(f"state {tick - 1}")))
        if ends:
            self.notes.append(Note(kind="legacy-ended", run=RUN, tick=tick))

    def legacy_tick(self, tick: int) -> None:
        """A whole tick of the old system."""
        self.take(tick)
        self.legacy(tick)
        self.adopt(tick)
        self.told(tick)

    def move(self, to: str) -> None:
        """The route moves."""
        old = dict(self.route)
        self.route = {"owner": to, "epoch": old["epoch"] + 1}
        self.commit(("route", "update", old, dict(self.route)))

    def check(self, ticks: int, **more: Any) -> Checked:
        """What the checker says of it, when so many ticks were due."""
        expected = {"run": RUN, "ticks": frozenset(range(ticks)), "effects": dict.fromkeys(STEPS, 1),
                    "receives": lambda kind: True, "legacy_notes": True, **more}  # fmt: skip
        return check(History(changes=tuple(self.changes), notes=tuple(self.notes)), [Expected(**expected)])


def only(checked: Checked, kind: type[Violation]) -> Any:
    """The one violation that a check found, which is of this kind; its text names the tick."""
    assert [type(each) for each in checked.violations] == [kind], str(checked)
    assert "of run r" in str(checked.violations[0])
    return checked.violations[0]
