"""The noting job for workers that commit effects in a transaction of their own, after the checkpoint.

A worker loads it with its workload, and has a mutated engine from then on.
"""

from __future__ import annotations

import json
from typing import Any

from async_tick import claims
from async_tick.claims import Claim, Claims, Completion
from tests.chaos.noting_job import job as job

_INSERT = """
INSERT INTO effects (workflow_id, position, number, step, kind, key, payload)
SELECT %s, e.position, e.number, e.step, e.kind, e.key, e.payload
FROM json_to_recordset(%s::json) AS e (position integer, number integer, step text, kind text, key text, payload text)
"""
_whole = Claims.complete


def _apart(self: Claims, claim: Claim, status: str, **more: Any) -> Completion:
    effects = more.pop("effects", ())
    completion = _whole(self, claim, status, **more)
    if completion.accepted and json.loads(document := claims._effects_document(effects)):
        self._connection.rows(_INSERT, (claim.ground.workflow_id, document))
    return completion


Claims.complete = _apart  # type: ignore[method-assign]
