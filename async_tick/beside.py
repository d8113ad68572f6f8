"""What runs beside the loop: the other system, on trial. This package knows it by what it is told alone."""

from __future__ import annotations

import datetime as dt
import importlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tickover.boundary.observation import Late, LegacyObservation
from tickover.errors import ConfigurationError
from tickover.execution import System
from tickover.workflow import Workflow

log = logging.getLogger(__name__)

# Where what runs beside is made; a finished migration deletes it.
MAKER = "shadow.beside"


@dataclass(frozen=True, kw_only=True, slots=True)
class Begun:
    """A tick that the system in charge has begun, or goes on with; immutable.

    beside: the name of the run beside. due_at: when the schedule wanted it. started_at: its instant. interval_s: of
    the schedule, 0 for back to back.
    """

    run: str
    tick: int
    owner: System
    epoch: int
    beside: str
    due_at: dt.datetime
    started_at: dt.datetime
    interval_s: float


class Beside(Protocol):
    """Told of the loop's ticks. Nothing of it takes longer than handing something over to another thread."""

    def name(self, epoch: int, owner: System) -> str | None:
        """The run in which the other system runs beside this owner's ticks under this epoch; None for none."""

    def begin(self, begun: Begun) -> None:
        """A tick has begun."""

    def end(self, begun: Begun, seen: LegacyObservation | None, late: Sequence[Late]) -> None:
        """The tick was adopted. seen: what the old system did with it, None for the new one's, whose rows say it, and
        for one that was lost. late: what ticks of the old system have done since they returned."""

    def wait_for_room(self, timeout_s: float) -> None:
        """Wait, no longer than that, until what runs beside keeps up. Asked where no schedule has to be kept."""

    def close(self, patience_s: float) -> None:
        """End, and leave what is not done within the patience to the next loop."""


def load(workflow: Workflow, workload: str, run: str, say: Callable[[str], None], **options: Any) -> Beside:
    """What runs beside a loop, as `shadow` makes it. Raises ConfigurationError where there is no such package."""
    try:
        maker = importlib.import_module(MAKER)
    except ModuleNotFoundError as error:
        if error.name not in (MAKER, MAKER.partition(".")[0]):
            raise
        raise ConfigurationError(
            f"--shadow needs the package {MAKER.partition('.')[0]}, which is not here any more; "
            "run `tickover serve` without it"
        ) from error
    found: Beside = maker.make(workflow, workload, run, say, **options)
    return Shielded(found, say)


class Shielded:
    """A Beside that lets nothing out: what fails in it is told once, counted, and changes no tick."""

    def __init__(self, inner: Beside, say: Callable[[str], None]) -> None:
        self._inner, self._say = inner, say
        self.failures = 0

    def name(self, epoch: int, owner: System) -> str | None:
        """The name, or None if there is none to be had."""
        try:
            return self._inner.name(epoch, owner)
        except Exception as error:  # noqa: BLE001 - see the class
            self._failed("name", error)
            return None

    def begin(self, begun: Begun) -> None:
        """Tell of a tick that has begun."""
        try:
            self._inner.begin(begun)
        except Exception as error:  # noqa: BLE001 - see the class
            self._failed("begin", error)

    def end(self, begun: Begun, seen: LegacyObservation | None, late: Sequence[Late]) -> None:
        """Tell of a tick that was adopted."""
        try:
            self._inner.end(begun, seen, late)
        except Exception as error:  # noqa: BLE001 - see the class
            self._failed("end", error)

    def wait_for_room(self, timeout_s: float) -> None:
        """Wait for what runs beside."""
        try:
            self._inner.wait_for_room(timeout_s)
        except Exception as error:  # noqa: BLE001 - see the class
            self._failed("wait_for_room", error)

    def close(self, patience_s: float) -> None:
        """End what runs beside."""
        try:
            self._inner.close(patience_s)
        except Exception as error:  # noqa: BLE001 - see the class
            self._failed("close", error)

    def _failed(self, what: str, error: Exception) -> None:
        self.failures += 1
        log.warning("beside.failed", extra={"what": what, "reason": f"{type(error).__name__}: {error}"})
        if self.failures == 1:
            self._say(f"what runs beside failed ({type(error).__name__}: {error}); ticks go on without it")


def recording(begun: Begun) -> Mapping[str, Any]:
    """The harness of an execution of the new system that serves, and whose calls the old one replays."""
    return {
        "tape": {"run": begun.beside, "tick": begun.tick, "on_miss": "live", "latency": True, "records": True,
                 "serves": True}
    }  # fmt: skip
