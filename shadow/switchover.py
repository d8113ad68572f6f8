"""The switchover itself: backup, move, and what the first tick of the new system came to."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

from async_tick.guardrails import Guardrails
from async_tick.route import Route, move, read_route, who
from shadow import switch_store
from shadow.preflight import Check
from shadow.switch_store import Basis, FirstTick
from tickover.errors import ConfigurationError, ExitCode
from tickover.execution import System

# How often it is looked whether the first tick has ended, in seconds.
LOOK_S = 0.25


class NotSafe(ConfigurationError):
    """A check before the switchover failed, and nothing was done."""

    exit_code = ExitCode.NOT_READY


class TooEarly(NotSafe):
    """Nothing failed, but the verdict is that the run goes on."""

    exit_code = ExitCode.KEEP_RUNNING


def require(checks: Sequence[Check], verdict: str | None, *, force: bool) -> None:
    """Nothing, if the switchover may be made. verdict: under the policy, None for none. force: although checks failed
    that may be forced. Raises NotSafe, or TooEarly where it is the verdict alone that is still open."""
    failed = [check.name for check in checks if not check.passed]
    final = [check.name for check in checks if not check.passed and not check.may_be_forced]
    if final:
        raise NotSafe(f"not switched: {', '.join(final)} failed, which --force does not overrule; mend that first")
    if failed and not force:
        early = failed == ["verdict"] and verdict == "KEEP_RUNNING"
        said = f"not switched: {', '.join(failed)} failed; mend that, or use --force with --reason"
        raise TooEarly("not switched: the verdict is still open; let the run go on") if early else NotSafe(said)


def switch(
    seen: Route, checks: Sequence[Check], basis: Basis, *, reason: str, author: str | None,
    guardrails: Guardrails | None = None,
) -> Route:  # fmt: skip
    """Put the new system in charge at the next boundary between ticks, and return the new route.

    What the move rested on is stored with it, in one transaction; that checks had failed stands in the route's
    history for good. Raises what `route.move` raises, and then nothing has changed.
    """
    failed = tuple(check.name for check in checks if not check.passed)
    if failed:
        reason = f"{reason} (forced, although {', '.join(failed)} failed)"
    basis = dataclasses.replace(basis, failed=failed)
    return move(
        seen, System.ASYNC, author=author or who(), reason=reason, guardrails=guardrails,
        also=lambda do, now: switch_store.keep(do, now.epoch, basis),
    )  # fmt: skip


def await_first_tick(
    run: str, moved: Route, wait_s: float, *, say: Callable[[FirstTick], None]
) -> FirstTick | Route | None:
    """The new system's first tick, once it has ended; the route, if that has moved on meanwhile; None if neither came
    within `wait_s` seconds. say: gets the tick when it begins."""
    deadline, told = time.monotonic() + wait_s, False
    while True:
        found = switch_store.first_tick(run, moved.epoch)
        if found is not None and found.outcome is not None:
            return found
        if found is not None and not told:
            told = True
            say(found)
        now = read_route()
        if now.epoch != moved.epoch:
            return now
        if time.monotonic() >= deadline:
            return None
        time.sleep(LOOK_S)  # the pace of looking for the end of a tick
