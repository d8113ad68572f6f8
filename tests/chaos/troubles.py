"""What chaos does, round by round: drawn from a seed before anything begins, so that a run can be had again."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.chaos.arena import LEASE_S, STARTER, Arena, Member


@dataclass(frozen=True, kw_only=True, slots=True)
class Trouble:
    """One thing that happens; immutable. victim: a member, or a server. for_s: how long it lasts, in seconds."""

    kind: str
    victim: str
    for_s: float

    def __str__(self) -> str:
        return f"{self.kind} {self.victim} {self.for_s:.2f}s"


@contextlib.contextmanager
def _killed(arena: Arena, member: Member) -> Iterator[None]:
    member.kill()
    yield
    arena.revive()


@contextlib.contextmanager
def _terminated(arena: Arena, member: Member) -> Iterator[None]:
    if member.process is not None and member.alive():
        member.process.send(signal.SIGTERM)
    yield
    # What has ended by then is started again; a worker may still be at its last step.
    arena.revive()


@contextlib.contextmanager
def _paused(arena: Arena, member: Member) -> Iterator[None]:
    member.signal(signal.SIGSTOP)
    yield
    member.signal(signal.SIGCONT)


def _line(*names: str, act: str, delay_s: float | None = None) -> Callable[[Arena, Member], object]:
    @contextlib.contextmanager
    def on_line(arena: Arena, member: Member) -> Iterator[None]:
        for name in names:
            line = member.lines[name]
            line.delay(delay_s) if delay_s is not None else getattr(line, act)()
        yield
        for name in names:
            member.lines[name].heal()

    return on_line


# What happens to workers and runners.
MEMBER_TROUBLES: dict[str, Callable[[Arena, Member], object]] = {
    "kill": _killed,
    "terminate": _terminated,
    "pause": _paused,
    "cut-postgres": _line("postgres", act="cut"),
    "cut-redis": _line("redis", act="cut"),
    "cut-both": _line("postgres", "redis", act="cut"),
    "reset": _line("postgres", "redis", act="reset"),
    "stall-postgres": _line("postgres", act="stall"),
    "stall-redis": _line("redis", act="stall"),
    "slow": _line("postgres", "redis", act="delay", delay_s=0.05),
}


@contextlib.contextmanager
def _crashed(arena: Arena, name: str) -> Iterator[None]:
    arena.servers[name].kill()
    yield
    arena.restart(name)


@contextlib.contextmanager
def _postmaster_killed(arena: Arena, name: str) -> Iterator[None]:
    # Its sessions outlive it for a moment, and may even commit.
    arena.servers[name].send(signal.SIGKILL)
    yield
    arena.restart(name)


@contextlib.contextmanager
def _backend_killed(arena: Arena, name: str) -> Iterator[None]:
    # One session dies, and PostgreSQL ends all others and goes through recovery.
    sessions = arena.ask("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'tickover %' ORDER BY pid")
    if sessions:
        with contextlib.suppress(ProcessLookupError):
            os.kill(sessions[len(sessions) // 2][0], signal.SIGKILL)
    yield
    arena.wait_for_postgres()


@contextlib.contextmanager
def _sessions_ended(arena: Arena, name: str) -> Iterator[None]:
    arena.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'tickover %'")
    yield


@contextlib.contextmanager
def _server_paused(arena: Arena, name: str) -> Iterator[None]:
    os.killpg(arena.servers[name].pid, signal.SIGSTOP)
    yield
    os.killpg(arena.servers[name].pid, signal.SIGCONT)


def _hints(act: Callable[[Any, str], object]) -> Callable[[Arena, str], object]:
    @contextlib.contextmanager
    def on_hints(arena: Arena, name: str) -> Iterator[None]:
        over = threading.Event()

        def meddle() -> None:
            with arena.redis_client() as client:
                while not over.wait(0.002):  # the pace at which hints are meddled with
                    for queue in QUEUES:
                        act(client, queue)

        meddler = threading.Thread(target=meddle)
        meddler.start()
        try:
            yield
        finally:
            over.set()
            meddler.join()

    return on_hints


def _double(client: Any, queue: str) -> None:
    hint = client.lindex(queue, 0)
    # Not without end: a hint that was doubled is doubled again.
    if hint is not None and client.llen(queue) < 200:
        client.lpush(queue, hint)


def _drop(client: Any, queue: str) -> None:
    client.rpop(queue)


@contextlib.contextmanager
def _emptied(arena: Arena, name: str) -> Iterator[None]:
    with arena.redis_client() as client:
        client.flushall()
    yield


# What happens to servers.
SERVER_TROUBLES: dict[tuple[str, str], Callable[[Arena, str], object]] = {
    ("crash", "postgres"): _crashed,
    ("kill-postmaster", "postgres"): _postmaster_killed,
    ("kill-session", "postgres"): _backend_killed,
    ("end-sessions", "postgres"): _sessions_ended,
    ("pause", "postgres"): _server_paused,
    ("crash", "redis"): _crashed,
    ("empty", "redis"): _emptied,
    ("pause", "redis"): _server_paused,
    ("double-hints", "redis"): _hints(_double),
    ("drop-hints", "redis"): _hints(_drop),
}
# The lists in which Redis keeps hints.
QUEUES = ("critical", "optional")
# How often servers are struck, of all troubles.
_SERVER_SHARE = 0.3
# How long troubles last at most, in seconds: paused processes outlive their leases.
_LONGEST_S = LEASE_S + 1.5


def draw(seed: int, rounds: int, members: list[str], most: int = 2) -> list[list[Trouble]]:
    """What happens in each round: one trouble, or up to `most` at once."""
    dice = random.Random(seed)
    more = 0.3 if most == 2 else 0.7
    return [
        [_draw_one(dice, members) for _ in range(1 + sum(dice.random() < more for _ in range(most - 1)))]
        for _ in range(rounds)
    ]


def _draw_one(dice: random.Random, members: list[str]) -> Trouble:
    if dice.random() < _SERVER_SHARE:
        kind, victim = dice.choice(sorted(SERVER_TROUBLES))
        return Trouble(kind=kind, victim=victim, for_s=dice.uniform(0, 1.0))
    kind, victim = dice.choice(sorted(MEMBER_TROUBLES)), dice.choice(members)
    longest = _LONGEST_S if kind in ("pause", "stall-postgres") and dice.random() < 0.5 else 1.0
    return Trouble(kind=kind, victim=victim, for_s=dice.uniform(0.05, longest))


def strike(arena: Arena, troubles: list[Trouble]) -> None:
    """Have the troubles of a round happen at once, and all of them end."""
    seen: set[str] = set()
    with contextlib.ExitStack() as stack:
        for trouble in troubles:
            if trouble.victim in seen:
                # One at a time for each victim: who was killed cannot be paused.
                continue
            seen.add(trouble.victim)
            stack.enter_context(_happens(arena, trouble))  # type: ignore[arg-type]
        time.sleep(max(trouble.for_s for trouble in troubles))  # how long the trouble lasts
    arena.revive()


def _happens(arena: Arena, trouble: Trouble) -> object:
    if trouble.victim in arena.servers:
        return SERVER_TROUBLES[trouble.kind, trouble.victim](arena, trouble.victim)
    return MEMBER_TROUBLES[trouble.kind](arena, arena.members[trouble.victim])


def all_members(workers: int, loops: int) -> list[str]:
    """The names of an arena's members."""
    return [*(f"worker{n}" for n in range(workers)), *(f"loop{n}" for n in range(loops)), STARTER]
