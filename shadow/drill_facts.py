"""What a trial showed: pure functions of an undisturbed run, the run under the fault, and its ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from shadow.drill_trial import SideRun
from shadow.faults import FaultKind
from shadow.observation import TROUBLE, Observation, Outcome, StepStatus
from tickover.canonical import canonical_text
from tickover.execution import System
from tickover.workflow import Workflow

_AS_UNDISTURBED = "the tick ended as undisturbed"
_ENDS = {"permanent_error": "the error was confined to its step"}


@dataclass(frozen=True, kw_only=True, slots=True)
class SideFacts:
    """What one system did under a fault; immutable.

    outcome: done, failed or lost. recovered: as its kind says, within the window. seconds: from the fault (or the
    step's limit) to the step running again, or to its commit where it was never interrupted; None if it did not.
    judged_s: the same at the run's own time scale and lease. again: steps entered again. lost, doubled: effects
    against an undisturbed run. half_done: effects of a tick that did not end well. late: effects after the system had
    given up on their step. refused, stale: commits of whoever had lost its step, refused and accepted. same_state:
    whether the final state is that of an undisturbed run.
    """

    outcome: str
    recovered: bool
    reason: str
    seconds: float | None
    judged_s: float | None
    again: int
    lost: int
    doubled: int
    half_done: int
    late: int
    refused: int
    stale: int
    same_state: bool

    def to_json(self) -> dict[str, Any]:
        """The facts as a JSON document."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """How a trial's times are read; immutable. limit_s: of the step, in real seconds. waits_s: by attempt, what the
    retries before it would wait longer at the run's own time scale. lease_s: by which a lease is shorter here."""

    limit_s: float
    waits_s: Sequence[float]
    lease_s: float


def facts(
    workflow: Workflow, kind: FaultKind, step: str, calm: SideRun, run: SideRun, timing: Timing
) -> SideFacts:  # fmt: skip
    """What a system did under a fault in `step`. calm: its undisturbed run of the same tick."""
    outcome = Outcome.LOST if run.seen is None else run.seen.outcome
    same_state = canonical_text(run.state) == canonical_text(calm.state)
    seconds, attempt = _running_again(kind, step, run, timing)
    lost, doubled, half_done = _effects(workflow, outcome, calm, run)
    reason = _not_recovered(workflow, kind, step, calm, run)
    if not reason and seconds is not None and seconds > kind.window_s:
        reason = f"it took {seconds:.1f} s, and the window is {kind.window_s:g} s"
    judged_s = seconds
    if seconds is not None and run.system is System.ASYNC:
        judged_s = seconds + sum(timing.waits_s[: max(0, attempt - 1)])
        judged_s += timing.lease_s if kind.name == "paused_process" else 0.0
    entered = Counter(event["step"] for event in run.ledger if event["event"] == "entered")
    accepted = Counter(
        event["step"] for event in run.ledger if event["event"] == "committed" and event["accepted"]
    )  # fmt: skip
    return SideFacts(
        outcome=outcome.value, recovered=not reason, reason=reason or _ENDS.get(kind.name, _AS_UNDISTURBED),
        seconds=seconds, judged_s=judged_s, again=sum(entered.values()) - len(entered), lost=lost, doubled=doubled,
        half_done=half_done, late=run.late,
        refused=sum(event.get("accepted") is False for event in run.ledger),
        stale=sum(accepted.values()) - len(accepted), same_state=same_state,
    )  # fmt: skip


def _not_recovered(workflow: Workflow, kind: FaultKind, step: str, calm: SideRun, run: SideRun) -> str:
    """Why the system did not recover; empty if it did."""
    if run.seen is None:
        return run.unended
    if kind.name == "permanent_error":
        return _not_confined(workflow, step, calm, run)
    if run.seen.outcome is not Outcome.DONE:
        return _ended(run.seen)
    assert calm.seen is not None
    for name, before in calm.seen.steps.items():
        after = run.seen.steps[name]
        if after.status is not before.status:
            return f"step {name} is {after.status.value} instead of {before.status.value}"
    if canonical_text(run.state) != canonical_text(calm.state):
        return "the final state differs from that of an undisturbed run"
    if _counted(run) != _counted(calm):
        return "the effects differ from those of an undisturbed run"
    return ""


def _ended(seen: Observation) -> str:
    # Where its log is stands in the error of a lost process; the drill's own logs say more.
    return f"the tick is {seen.outcome.value}: {str(seen.error).partition('; see ')[0]}"


def _not_confined(workflow: Workflow, step: str, calm: SideRun, run: SideRun) -> str:
    assert run.seen is not None and calm.seen is not None
    declared = workflow.step(step)
    if declared.critical and declared.fallback is None:
        if run.seen.outcome is not Outcome.FAILED:
            return f"a critical step failed, and the tick is {run.seen.outcome.value}"
        return "the failed tick has left effects behind" if run.effects else ""
    if run.seen.outcome is not Outcome.DONE:
        return _ended(run.seen)
    wanted = StepStatus.FALLBACK if declared.fallback is not None else StepStatus.FAILED
    found = run.seen.steps[step].status
    if found is not wanted:
        return f"step {step} is {found.value} instead of {wanted.value}"
    for name, before in calm.seen.steps.items():
        if name != step and run.seen.steps[name].status is not before.status:
            return f"step {name} is {run.seen.steps[name].status.value} instead of {before.status.value}"
    return ""


def _counted(run: SideRun) -> Counter[str]:
    return Counter(canonical_text([kind, payload]) for _, kind, payload in run.effects)


def _effects(workflow: Workflow, outcome: Outcome, calm: SideRun, run: SideRun) -> tuple[int, int, int]:
    """Effects that were lost, that were doubled, and that a tick which did not end well has left."""
    wanted, found = _counted(calm), _counted(run)
    doubled = sum(max(0, count - max(1, wanted[effect])) for effect, count in found.items())
    if outcome is Outcome.FAILED:
        # The system says itself that there is nothing: what is there all the same is half a tick.
        return 0, doubled, len(run.effects)
    if run.seen is None and run.system is System.ASYNC:
        # It has not ended, and goes on: nothing of it counts yet, and nothing is lost.
        return 0, doubled, 0
    if outcome is Outcome.LOST:
        return (wanted - found).total(), doubled, len(run.effects)
    assert run.seen is not None
    # What a step that the system reports as failed would have done was never made; nor what depended on it in the
    # same words: there the kinds are counted.
    missing = {name for name, seen in run.seen.steps.items() if seen.status in TROUBLE}
    kinds = Counter(kind for step, kind, _ in calm.effects if step not in missing)
    kinds.subtract(Counter(kind for step, kind, _ in run.effects if step not in missing))
    return sum(max(0, count) for count in kinds.values()), doubled, 0


def _running_again(kind: FaultKind, step: str, run: SideRun, timing: Timing) -> tuple[float | None, int]:
    """Seconds to the entry of the attempt that was committed, and that attempt's number."""
    struck = next((event for event in run.ledger if event["event"] == "struck"), None)
    commit = next(
        (event for event in run.ledger
         if event["event"] == "committed" and event["step"] == step and event["accepted"]), None,
    )  # fmt: skip
    if struck is None or commit is None:
        return None, 1
    entries = [
        event for event in run.ledger
        if event["event"] == "entered" and event["step"] == step and event["at"] <= commit["at"]
    ]  # fmt: skip
    own = [event for event in entries if event["pid"] == commit["pid"]]
    entry = (own or entries or [commit])[-1]
    again = entry if entry["at"] > struck["at"] else commit
    since = struck["at"]
    if kind.since == "limit" and entries:
        since = max(since, entries[0]["at"] + timing.limit_s)
    return round(max(0.0, again["at"] - since), 3), int(commit["attempt"])
