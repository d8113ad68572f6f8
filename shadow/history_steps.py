"""What a ledger says of executions: their steps, checkpoints and effects, commit by commit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shadow.ledger import Change
from shadow.violations import Backwards, StaleCommit, Violation, WrittenApart
from tickover.execution import Purpose, System

OVER = frozenset({"done", "failed", "not_applicable", "cancelled"})
_SWEEP = "tickover_sweep"
Row = Mapping[str, Any]


@dataclass(kw_only=True)
class Execution:
    """An execution as far as the ledger has been read."""

    row: Row
    steps: dict[str, Row] = field(default_factory=dict)
    checkpoints: dict[str, Row] = field(default_factory=dict)
    effects: dict[tuple[int, int], Row] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """running, done or failed."""
        return str(self.row["status"])

    @property
    def error(self) -> str | None:
        """Why it failed."""
        return None if self.row["error"] is None else str(self.row["error"])

    def standing(self) -> str:
        """What it waits for; empty if it is over."""
        open_steps = [f"{name} is {row['status']}" for name, row in self.steps.items() if row["status"] not in OVER]
        if self.status != "running" and not open_steps:
            return ""
        return ", ".join(open_steps) or "its steps are over, and it is not"


class Steps:
    """Follows executions through a ledger, and notes what is broken on the way."""

    def __init__(self) -> None:
        self.executions: dict[int, Execution] = {}
        self._controls: dict[tuple[str, int], list[Execution]] = defaultdict(list)
        self.violations: list[Violation] = []
        self.done = 0
        self.recovered = 0

    def controls(self, run: str, tick: int) -> list[Execution]:
        """The executions of the new system whose answer counts for a tick."""
        return self._controls.get((run, tick), [])

    def commit(self, changes: Sequence[Change]) -> None:
        """Follow one transaction."""
        ended: set[tuple[int, str]] = set()
        checkpointed: set[tuple[int, str]] = set()
        emitted: list[tuple[Execution, Change]] = []
        for change in changes:
            row = change.new or change.old or {}
            if change.relation == "workflows":
                self._workflow(change, row)
                continue
            execution = self.executions.get(row.get("workflow_id", -1))
            if execution is None:
                # It began before the watch did.
                continue
            if change.relation == "step_runs":
                if self._step(execution, change, row) == "done":
                    ended.add((row["workflow_id"], row["step"]))
            elif change.relation == "workflow_checkpoints":
                checkpointed.add((row["workflow_id"], row["stage"]))
                self._checkpoint(execution, change, row)
            elif change.relation == "effects":
                emitted.append((execution, change))
        number = changes[0].commit
        for workflow_id, step in ended - checkpointed:
            self._apart(workflow_id, f"step {step} was ended without its checkpoint", number)
        for workflow_id, step in checkpointed - ended:
            self._apart(workflow_id, f"the checkpoint of {step} was written without the end of its step", number)
        for execution, change in emitted:
            self._effect(execution, change, checkpointed)

    def _apart(self, workflow_id: int, what: str, number: int) -> None:
        row = self.executions[workflow_id].row
        self.violations.append(WrittenApart(run=row["run"], tick=row["tick"], what=what, commit=number))

    def _backwards(self, execution: Execution, what: str, number: int) -> None:
        row = execution.row
        self.violations.append(Backwards(run=row["run"], tick=row["tick"], what=what, commit=number))

    def _workflow(self, change: Change, row: Row) -> None:
        if change.operation == "insert":
            begun = self.executions[row["id"]] = Execution(row=row)
            if (row["system"], row["purpose"]) == (System.ASYNC.value, Purpose.CONTROL.value):
                self._controls[row["run"], row["tick"]].append(begun)
            return
        execution = self.executions.get(row["id"])
        if execution is None:
            return
        if change.operation == "delete":
            self._backwards(execution, "its execution was deleted", change.commit)
            return
        if execution.status in OVER and row["status"] != execution.status:
            self._backwards(execution, f"it was {execution.status} and became {row['status']}", change.commit)
        execution.row = row

    def _step(self, execution: Execution, change: Change, row: Row) -> str | None:
        """The status in which the change ended the step, None if it did not."""
        step, before = row["step"], (change.old or {}).get("status")
        if change.operation == "delete":
            self._backwards(execution, f"step {step} was deleted", change.commit)
            return None
        execution.steps[step] = row
        after = row["status"]
        if change.operation == "insert" or change.old is None or (before == after and before != "running"):
            return None
        if before in OVER:
            self._backwards(execution, f"step {step} was {before} and became {after}", change.commit)
            return None
        if after in ("ready", "running") and before != "running":
            self._needs_are_over(execution, change, row)
        swept = change.caller == _SWEEP
        if before == "running" and after != "cancelled":
            if not change.presented and not (swept and after in ("ready", "failed")):
                self._stale(execution, change, f"set step {step} to {after}", f"token {change.old['token']}")
            self.recovered += swept and after == "ready"
        elif after in OVER and after != "cancelled":
            self._stale(execution, change, f"set step {step} to {after}", f"its status, which was {before}")
        self.done += after == "done"
        return str(after) if after in OVER else None

    def _needs_are_over(self, execution: Execution, change: Change, row: Row) -> None:
        early = [need for need in row["needs"] if execution.steps.get(need, {}).get("status") not in OVER]
        if early:
            what = f"step {row['step']} became {row['status']} before {', '.join(early)}"
            self._backwards(execution, what, change.commit)

    def _stale(self, execution: Execution, change: Change, what: str, fence: str) -> None:
        row = execution.row
        self.violations.append(
            StaleCommit(run=row["run"], tick=row["tick"], what=what, fence=fence, commit=change.commit)
        )

    def _checkpoint(self, execution: Execution, change: Change, row: Row) -> None:
        stage = row["stage"]
        if change.operation != "insert":
            self._backwards(execution, f"the checkpoint of {stage} was {change.operation}d", change.commit)
        elif stage in execution.checkpoints:
            self._backwards(execution, f"the checkpoint of {stage} was written again", change.commit)
        elif row["tick_number"] != execution.row["tick"]:
            self._backwards(execution, f"the checkpoint of {stage} is of tick {row['tick_number']}", change.commit)
        execution.checkpoints[stage] = row

    def _effect(self, execution: Execution, change: Change, checkpointed: set[tuple[int, str]]) -> None:
        row = change.new or change.old or {}
        if change.operation != "insert":
            self._backwards(execution, f"effect {row['key']} was {change.operation}d", change.commit)
            return
        if (row["workflow_id"], row["step"]) not in checkpointed:
            self._apart(row["workflow_id"], f"effect {row['key']} was written without its checkpoint", change.commit)
        execution.effects[row["position"], row["number"]] = row
