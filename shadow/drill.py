"""A drill: from a run and a plan to trials that are stored."""

from __future__ import annotations

import contextlib
import datetime as dt
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from async_tick.limits import HARD_MARGIN_S
from async_tick.steps import step_limits
from shadow.drill_facts import SideFacts, Timing, facts
from shadow.drill_ground import LEASE_S, Ground
from shadow.drill_store import DrillRecord, DrillStore
from shadow.drill_trial import SideRun, StartingPoint, TrialRunner, sqlite_files
from shadow.faults import KINDS, FaultKind, Shot, strikable
from shadow.keys import evidence_keys
from shadow.session import check
from shadow.store import RunRecord, Store
from tickover.draws import seed_of
from tickover.errors import ConfigurationError, InfrastructureError
from tickover.execution import ExecutionKey, Purpose, System
from tickover.ground.settings import get_settings
from tickover.ground.tape_store import PostgresTapeStore
from tickover.loading import load_workload
from tickover.workflow import Workflow

# Ticks of the run that trials start from; each is run once undisturbed by both systems.
POOL = 6
# How often an undisturbed run is tried, and a fault where it did not strike: on a busy machine a scaled step can
# overrun its limit by itself.
ATTEMPTS = 3
# A step that has this share of its limit left can be slowed down; it is then made to take this share of it.
IDLE, SLOW = 0.6, 0.85
# How often a process is killed or paused when its step's work is done and not yet committed, rather than before.
AT_COMMIT = 0.5

Sides = Mapping[System, SideFacts]
Tell = Callable[[int, Shot, int, Sides], None]


@dataclass(frozen=True, kw_only=True)
class DrillGround:
    """What a run gives to a drill: its workload, the ticks that can be run again, and what can strike them;
    immutable."""

    record: RunRecord
    workflow: Workflow
    limits: Mapping[str, float]
    points: Mapping[int, StartingPoint]
    time_scale: float

    @cached_property
    def possible(self) -> dict[str, tuple[str, ...]]:
        """Kind of fault -> steps that it can strike."""
        ran = {step for step in self.workflow.order if any(self._ran(step, tick) for tick in self.points)}
        calling = {step for step in self.workflow.order if any(self._calls(step, tick) for tick in self.points)}
        idle = {
            step for step in ran
            if all(point.work_s(step) < IDLE * self.limit_s(step) for point in self.points.values())
        }  # fmt: skip
        return {
            name: tuple(step for step in strikable(self.workflow, kind, calling, idle) if step in ran)
            for name, kind in KINDS.items()
        }

    def limit_s(self, step: str) -> float:
        """The limit of one attempt, in real seconds of the drill."""
        return self.limits[step] * self.time_scale

    def tick_of(self, shot: Shot) -> int:
        """The tick that a trial strikes."""
        step, kind = shot.step(), KINDS[shot.kind]
        needs_calls = kind.steps == "with port calls"
        ticks = [
            tick for tick in self.points if self._ran(step, tick) and (not needs_calls or self._calls(step, tick))
        ]
        return shot.draw("tick").choice(ticks)

    def fault(self, shot: Shot, point: StartingPoint) -> dict[str, Any]:
        """The document that arms a trial's fault."""
        step, draw = shot.step(), shot.draw("moment")
        work_s, limit_s = point.work_s(step), self.limit_s(step)
        delay_s = draw.uniform(0, 0.7) * min(work_s, limit_s / 4)
        retry = self.workflow.step(step).retry
        length_s = {
            "hang": limit_s + HARD_MARGIN_S + 2,
            "slow_step": max(0.0, SLOW * limit_s - work_s - delay_s),
            "model_outage": retry.wait_s(1, 0) * self.time_scale,
        }
        return {
            "kind": shot.kind, "step": step, "delay_s": delay_s, "length_s": length_s.get(shot.kind, 0.0),
            "at_commit": draw.random() < AT_COMMIT,
        }  # fmt: skip

    def timing(self, step: str) -> Timing:
        """How the times of a trial in `step` are read."""
        retry = self.workflow.step(step).retry
        longer = max(0.0, self.record.plan.time_scale - self.time_scale)
        waits = [retry.wait_s(attempt, 0) * longer for attempt in range(1, retry.attempts)]
        return Timing(
            limit_s=self.limit_s(step), waits_s=waits, lease_s=max(0.0, get_settings().lease_s - LEASE_S)
        )  # fmt: skip

    def _calls(self, step: str, tick: int) -> bool:
        """Whether the step called a port in that tick. What the old system asked by itself, and the new one declares
        as an effect, is on the tape too."""
        ports = {port.name for port in self.workflow.ports}
        return any(entry.step == step and entry.port in ports for entry in self.points[tick].tape)

    def _ran(self, step: str, tick: int) -> bool:
        """Whether the step ran in that tick of the run: a step without calls and condition always does."""
        declared = self.workflow.step(step)
        return declared.when is None or any(entry.step == step for entry in self.points[tick].tape)


def prepare(store: Store, drills: DrillStore, run: str | None, time_scale: float) -> DrillGround:
    """What the run (None: the latest) gives to a drill. Raises UnknownRun, and ConfigurationError for a run that
    cannot be drilled, or that was made with other code."""
    record = store.run(run)
    workflow = load_workload(record.plan.workload)
    check(replace(record.plan, home=None), workflow)
    if evidence_keys(record.plan, workflow, record.rules)["behaviour"] != record.behaviour_key:
        raise ConfigurationError(
            f"run {record.run} was made with other code or limits, and a drill would be no evidence of it; "
            "start a new run with `tickover shadow`, and drill that"
        )
    clean = drills.clean_ticks(record.run)
    if not clean:
        raise ConfigurationError(
            f"run {record.run} has no tick yet that both systems ended well and alike, and drills start from such; "
            f"`tickover report {record.run}` counts them"
        )
    ticks = pool_of(drills.steps_called(record.run, clean), record.run)
    tape = PostgresTapeStore()
    try:
        points = {tick: _point(store, record, tick, tape, time_scale) for tick in ticks}
    finally:
        tape.close()
    return DrillGround(
        record=record, workflow=workflow, limits=step_limits(workflow, get_settings()), points=points,
        time_scale=time_scale,
    )  # fmt: skip


def pool_of(called: Mapping[int, frozenset[str]], run: str) -> list[int]:
    """Some of the ticks, the same for each drill of the run: at random, but for those without which a step would not
    be among them. called: tick -> the steps that made calls in it."""
    at_random = sorted(called, key=lambda tick: seed_of(run, tick, "drill"))
    chosen: list[int] = []
    missing = frozenset().union(*called.values())
    while missing and len(chosen) < POOL:
        best = max(at_random, key=lambda tick: len(called[tick] & missing))
        chosen.append(best)
        missing -= called[best]
    rest = [tick for tick in at_random if tick not in chosen]
    return sorted(chosen + rest[: POOL - len(chosen)])


def _point(store: Store, record: RunRecord, tick: int, tape: PostgresTapeStore, time_scale: float) -> StartingPoint:
    ticked = store.tick(record.run, tick)
    assert ticked is not None
    control = store.observation(
        ExecutionKey(run=record.run, tick=tick, system=record.plan.control, purpose=Purpose.CONTROL)
    )
    faster = time_scale / record.plan.time_scale
    return StartingPoint(
        run=record.run, tick=tick, started_at=ticked.due_at.isoformat(),
        state=store.state(record.run, ticked.state_before),
        draws=None if control is None or not control.draws else control.draws,
        tape=tuple(
            replace(entry, latency_ms=entry.latency_ms * faster) for entry in tape.of_tick(record.run, tick)
        ),
    )  # fmt: skip


class Drill:
    """Does the trials of a stored drill that are not done yet. `tell` gets each trial and what it showed."""

    def __init__(self, drill: DrillRecord, given: DrillGround, store: DrillStore, tell: Tell) -> None:
        self._drill, self._given, self._store, self._tell = drill, given, store, tell
        self._calm: dict[tuple[int, System], SideRun] = {}

    def run(self, say: Callable[[str], None]) -> None:
        """Do what is left. Raises InfrastructureError where the drill's own ground does not hold."""
        settings, given = get_settings(), self._given
        workflow, plan = given.workflow, given.record.plan
        root = settings.data_dir.expanduser().absolute() / "drills" / f"{self._drill.drill}-{secrets.token_hex(2)}"
        with contextlib.ExitStack() as stack:
            env: dict[str, str] = {}
            if settings.model_url:
                env["TICKOVER_MODEL_URL"] = settings.model_url
            elif workflow.services is not None:
                env.update(stack.enter_context(workflow.services(given.time_scale, plan.seed)))
            ground = Ground(root, plan.workload, given.time_scale, env)
            say(f"the drill has servers and workers of its own in {root}")
            stack.enter_context(ground.used())
            tape = PostgresTapeStore(ground.database_url)
            for point in given.points.values():
                tape.record_all(point.tape)
            tape.close()
            trials = TrialRunner(ground, workflow)
            done = self._store.done(self._drill.drill)
            for number, shot in enumerate(self._drill.shots):
                if number not in done:
                    self._trial(number, shot, trials, root / "home")
        self._store.finish(self._drill.drill)

    def _trial(self, number: int, shot: Shot, trials: TrialRunner, home: Path) -> None:
        kind, tick, step = KINDS[shot.kind], self._given.tick_of(shot), shot.step()
        point = self._given.points[tick]
        order = [System.LEGACY, System.ASYNC]
        shot.draw("first").shuffle(order)
        calm = {system: self._undisturbed(system, point, trials) for system in order}
        self._store.begin_trial(self._drill.drill, number, shot, tick, order[0])
        sides: dict[System, tuple[SideFacts, Any]] = {}
        for system in order:
            if system is System.LEGACY and not has_counterpart(kind, home):
                continue
            ran = self._struck(system, shot, point, trials)
            found = facts(self._given.workflow, kind, step, calm[system], ran, self._given.timing(step))
            sides[system] = (found, _document(found, ran))
        self._store.keep_sides(self._drill.drill, number, sides)
        self._tell(number, shot, tick, {system: found for system, (found, _) in sides.items()})

    def _struck(self, system: System, shot: Shot, point: StartingPoint, trials: TrialRunner) -> SideRun:
        """A run in which the fault struck: where it did not, there was nothing to recover from."""
        for _ in range(ATTEMPTS):
            ran = trials.run(system, point, self._given.fault(shot, point))
            if ran.is_struck:
                return ran
        raise InfrastructureError(
            f"{shot.kind} did not strike step {shot.step()} of tick {point.tick} in {system.value}, {ATTEMPTS} "
            "times; the step was not reached: see the drill's logs"
        )

    def _undisturbed(self, system: System, point: StartingPoint, trials: TrialRunner) -> SideRun:
        known = self._calm.get((point.tick, system))
        if known is not None:
            return known
        for _ in range(ATTEMPTS):
            ran = trials.run(system, point)
            if ran.seen is not None and ran.seen.is_whole:
                self._calm[point.tick, system] = ran
                return ran
        why = "it did not answer" if ran.seen is None else ran.seen.error or f"steps {ran.seen.trouble} gave up"
        raise InfrastructureError(
            f"tick {point.tick} did not end well in {system.value} without any fault, {ATTEMPTS} times "
            f"({why}); leave the machine more to itself, or use a larger --time-scale"
        )


def has_counterpart(kind: FaultKind, home: Path) -> bool:
    """Whether the old system in `home` can meet this kind of fault."""
    return bool(kind.on_legacy) and (kind.name != "database_restart" or bool(sqlite_files(home)))


def _document(found: SideFacts, ran: SideRun) -> dict[str, Any]:
    events = [
        {name: value for name, value in event.items() if name not in ("write", "rowid")} for event in ran.ledger
    ]  # fmt: skip
    seen = None if ran.seen is None else ran.seen.to_json()
    return {"facts": found.to_json(), "ledger": events, "observation": seen}


def new_drill_name(now: dt.datetime) -> str:
    """A name for a drill."""
    return f"drill-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
