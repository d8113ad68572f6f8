"""A whole chaos run: troubles for so many rounds, then peace, then the checker's judgement."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from shadow.history import Checked
from tests.chaos.arena import Arena, arena
from tests.chaos.troubles import Trouble, all_members, draw, strike

# How long nothing may end for before the run counts as stuck, in seconds on a loaded machine.
PATIENCE_S = 90.0
_LOOK_S = 0.02


@dataclass(frozen=True, kw_only=True, slots=True)
class ChaosEnd:
    """What became of a chaos run; immutable.

    stuck: what did not go on, empty where all did. back_s: kind of trouble -> seconds from its end to the next end of
    a tick, each time. logs: ends of logs. stories: what the ledger has of ticks with a violation.
    """

    seed: int
    checked: Checked
    stuck: str
    back_s: Mapping[str, list[float]] = field(default_factory=dict)
    duration_s: float = 0.0
    logs: dict[str, str] = field(default_factory=dict)
    stories: str = ""

    def __str__(self) -> str:
        kinds = [
            f"{kind}: {len(times)}, a tick ended after {statistics.median(times):.2f} s (longest {max(times):.2f} s)"
            for kind, times in sorted(self.back_s.items())
        ]
        return "\n".join(
            [f"seed {self.seed}, {self.duration_s:.0f} s", *kinds, self.stuck, str(self.checked), self.stories]
        )


def run_chaos(
    seed: int, rounds: int, *, workers: int, loops: int, most: int = 2, say: Callable[[str], None] = print,
    patience_s: float = PATIENCE_S,
) -> ChaosEnd:  # fmt: skip
    """Run ticks through so many rounds of trouble, and check their history.

    most: how many troubles at once at most. say: gets the seed at once, and each round before it happens. After each
    round ticks must end again within `patience_s`.
    """
    say(f"chaos seed {seed}, {rounds} rounds")
    with arena(workers=workers, loops=loops) as ground:
        return go_through(draw(seed, rounds, all_members(workers, loops), most), ground, seed, say, patience_s)


def go_through(
    rounds: list[list[Trouble]], ground: Arena, seed: int = 0, say: Callable[[str], None] = print,
    patience_s: float = PATIENCE_S,
) -> ChaosEnd:  # fmt: skip
    """Strike an arena that runs, round by round, and check what became of it."""
    begun = time.monotonic()
    back_s: dict[str, list[float]] = defaultdict(list)
    stuck = ""
    for number, troubles in enumerate(rounds):
        said = " + ".join(map(str, troubles))
        say(f"{time.monotonic() - begun:7.1f} s, round {number}, {ground.told()} ticks: {said}")
        strike(ground, troubles)
        told, ended = ground.told(), time.monotonic()
        if not _until(lambda told=told: ground.told() > told, ground, patience_s):  # type: ignore[misc]
            stuck = f"after round {number} ({said}) no tick ended within {patience_s:g} s"
            break
        for trouble in troubles:
            back_s[f"{trouble.kind} {trouble.victim.rstrip('0123456789')}"].append(time.monotonic() - ended)
    ground.ask_to_stop()
    if not stuck and not _until(ground.runners_ended, ground, patience_s):
        stuck = f"what was begun did not end within {patience_s:g} s of peace"
    if not stuck and (deaf := ground.deaf_workers(patience_s)):
        stuck = f"{', '.join(deaf)} answered no more"
    if not stuck and (stubborn := ground.stubborn_workers(patience_s)):
        stuck = f"{', '.join(stubborn)} did not end when told to"
    checked = ground.check()
    return ChaosEnd(
        seed=seed, checked=checked, stuck=stuck, stories=ground.stories(checked), back_s=back_s, logs=ground.logs(),
        duration_s=time.monotonic() - begun,
    )  # fmt: skip


def _until(condition: Callable[[], bool], ground: Arena, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        ground.revive()
        time.sleep(_LOOK_S)  # the pace at which it looks
    return True
