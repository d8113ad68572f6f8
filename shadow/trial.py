"""The trial of a candidate: it follows a tick that the control has run, is judged, and the comparison is kept."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace

from shadow.both import Abandoned, Both
from shadow.compare import Comparison, not_compared
from shadow.judging import Judging
from shadow.observation import Graph, Observation
from shadow.sides import LegacySide
from shadow.store import TickRecord
from tickover.errors import TickoverError
from tickover.execution import ExecutionKey, Purpose, System
from tickover.workflow import Workflow

Tell = Callable[[int, Comparison], None]
CUT_OFF = "the runner ended while the control ran this tick, which is not run again"


class Trial:
    """Compares ticks of one run, from any thread. `tell` gets each comparison when it is kept, `judged` right
    before."""

    def __init__(
        self, both: Both, workflow: Workflow, reference: LegacySide, tell: Tell,
        judged: Tell = lambda tick, comparison: None,
    ) -> None:  # fmt: skip
        self.both, self.plan, self.record, self.store = both, both.plan, both.record, both.store
        self._tell, self._judged = tell, judged
        self._judging = Judging(self.plan, self.store, Graph.of(workflow), reference, self.record.rules)

    def abandon(self) -> None:
        """Keep nothing from now on: what runs still is about to be cut off, which says nothing of the candidate."""
        self.both.abandoned.set()

    def close(self) -> None:
        """Close what judging has open."""
        self._judging.close()

    def compare(self, tick: int, no_control: str = CUT_OFF) -> None:
        """Put the candidate through a tick, and keep the comparison. no_control: why nothing is known of the control,
        where that is so."""
        record = self.store.tick(self.plan.run, tick)
        assert record is not None
        control = self.store.observation(self.key(tick, self.plan.control))
        if control is None:
            self.conclude(tick, not_compared(no_control), None, None)
            return
        candidate: Observation | None = None
        try:
            candidate = self._follow(record, control)
            comparison = self.judge(record, control, candidate)
        except TickoverError as error:
            comparison = not_compared(f"the candidate was not run to its end: {error}")
        self.conclude(tick, comparison, control, candidate)

    def judge(self, record: TickRecord, control: Observation, candidate: Observation) -> Comparison:
        """The comparison of what both did with a tick."""
        return self._judging.compare(record, control, candidate)

    def conclude(
        self, tick: int, comparison: Comparison, control: Observation | None, candidate: Observation | None
    ) -> None:
        """Keep the comparison of a tick; one that is there stays as it is."""
        if self.both.abandoned.is_set():
            raise Abandoned(f"tick {tick} of run {self.plan.run}")
        self._judged(tick, comparison)
        if self.store.save_comparison(self.record, tick, comparison, control, candidate):
            self._tell(tick, comparison)

    def key(self, tick: int, system: System) -> ExecutionKey:
        """The execution of a tick in a system, by whether that is the control."""
        purpose = Purpose.CONTROL if system is self.plan.control else Purpose.CANDIDATE
        return ExecutionKey(run=self.plan.run, tick=tick, system=system, purpose=purpose)

    def _follow(self, record: TickRecord, control: Observation) -> Observation:
        state = self.store.state(self.plan.run, record.state_before)
        # What the old system drew by itself is drawn again; what the new one drew was derived, and is derived again.
        draws = control.draws if control.system is System.LEGACY else None
        same_instant = replace(record, due_at=dt.datetime.fromisoformat(control.started_at))
        return self.both.observe(self.key(record.tick, self.plan.candidate), same_instant, state, draws=draws)
