"""Claims: taking a step with a token, giving it back, and finishing it. Who lost the token is refused."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from async_tick import sql
from async_tick.connection import LOST, Connection, again_after_loss
from tickover.canonical import Json, parse
from tickover.effects import Effect
from tickover.errors import InfrastructureError

# How long an outcome in doubt is asked for after a lost connection, in seconds.
DOUBT_TIMEOUT_S = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Ground:
    """What all steps of an execution share: identity, start state, input, harness; immutable."""

    workflow_id: int
    execution_id: str
    run: str
    tick: int
    workflow: str
    version: str
    input: Json
    state: Json
    harness: Json
    started_at: Any
    time_scale: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A step that this process holds; immutable. phase: "run" or "fallback". failure: what the last attempt failed
    with."""

    ground: Ground
    step: str
    token: str
    attempt: int
    phase: str
    failure: str | None
    results: Mapping[str, Json]
    absent: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """What a completion did; immutable. ready: steps that became ready. next: the step claimed with it."""

    accepted: bool
    ready: tuple[str, ...] = ()
    next: Claim | None = None


class Claims:
    """The claims of one worker process."""

    def __init__(self, connection: Connection, owner: int, lease_s: float) -> None:
        self._connection, self._owner, self._lease_s = connection, owner, lease_s

    def claim(self, execution_id: str, step: str, limit_s: float) -> Claim | None:
        """The step, held until `limit_s` from now at most; None if there is nothing to claim."""
        token = str(uuid.uuid4())
        values = (execution_id, step, token, self._owner, self._lease_s, limit_s)
        # Each thread has a connection of its own, and finds it lost when it has its next hint after a restart of the
        # server. The hint must not be lost with it; a claim of which nobody knows runs out with its lease.
        rows = again_after_loss(lambda: self._connection.rows(sql.CLAIM, values), waits=True)
        if not rows:
            return None
        row = rows[0]
        ground = Ground(
            workflow_id=row[0], execution_id=execution_id, run=row[1], tick=row[2], workflow=row[3], version=row[4],
            input=parse(row[5]), state=parse(row[6]), harness=None if row[7] is None else parse(row[7]),
            started_at=row[8], time_scale=row[9],
        )  # fmt: skip
        return Claim(
            ground=ground, step=step, token=token, attempt=row[10], phase=row[11], failure=row[12],
            results=parse(row[13]), absent=parse(row[14]),
        )  # fmt: skip

    def complete(
        self, claim: Claim, status: str, *, result: str | None = None, error: str | None = None,
        effects: Sequence[Effect] = (), next_limits: Mapping[str, float] | None = None, diverged: Sequence[str] = (),
    ) -> Completion:  # fmt: skip
        """Finish the step with a status (done, failed, not_applicable); `result` is canonical text.

        diverged: doors at which the step drew otherwise than what it was to follow. next_limits: steps that may be
        claimed with it -> limit in seconds. A completion that was refused
        changed nothing.
        """
        token = str(uuid.uuid4()) if next_limits else None
        values = (
            claim.ground.workflow_id, claim.step, claim.token, status, result, error, _effects_document(effects),
            self._owner, self._lease_s, json.dumps(next_limits) if next_limits else None, token,
            list(diverged) or None,
        )  # fmt: skip
        try:
            row = self._connection.rows(sql.COMPLETE, values)[0]
        except LOST:
            return self._after_loss(claim, values)
        successor = None
        if row[2] is not None and token is not None:
            successor = Claim(
                ground=claim.ground, step=row[2], token=token, attempt=row[3], phase=row[4], failure=row[5],
                results=parse(row[6]), absent=parse(row[7]),
            )  # fmt: skip
        return Completion(accepted=row[0], ready=tuple(row[1]), next=successor)

    def _after_loss(self, claim: Claim, values: tuple[Any, ...]) -> Completion:
        """Whether the completion arrived is read by token; it is sent again only if the token is still there."""
        deadline = time.monotonic() + DOUBT_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                rows = self._connection.rows(sql.READ_STEP, (claim.ground.workflow_id, claim.step))
                if not rows or rows[0][1] != claim.token:
                    # Either it arrived, or another took over: the sweeper sends the hints that were not sent.
                    return Completion(accepted=False)
                row = self._connection.rows(sql.COMPLETE, (*values[:9], None, None, values[11]))[0]
                return Completion(accepted=row[0], ready=tuple(row[1]))
            except (*LOST, InfrastructureError):
                time.sleep(0.2)  # a pause between attempts to reach a server that is away
        return Completion(accepted=False)

    def retry(self, claim: Claim, error: str, *, wait_s: float = 0.0, fallback: bool = False) -> bool:
        """Give the step back for another attempt after `wait_s`, or to its fallback; False if the token was lost."""
        values = (claim.ground.workflow_id, claim.step, claim.token, error, wait_s, fallback)
        return bool(again_after_loss(lambda: self._connection.rows(sql.RETRY, values), waits=True)[0][0])


def _effects_document(effects: Sequence[Effect]) -> str:
    from tickover.canonical import canonical_text

    return canonical_text([{**effect.to_json(), "payload": canonical_text(effect.payload)} for effect in effects])
