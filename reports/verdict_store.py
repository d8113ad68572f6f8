"""Verdicts as they are stored: with evidence, policy and versions, so that each can be computed again."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, insert, select

from reports.models import Verdict as Row
from reports.policy import Policy, from_json
from reports.tally import Evidence, evidence_from_json
from reports.verdict import Decision, Verdict, judge
from tickover import __version__
from tickover.canonical import canonical_text, digest, parse
from tickover.errors import ConfigurationError


class NoVerdict(ConfigurationError):
    """No verdict is stored for the run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """A stored verdict; immutable. outcome: decision and scores as they were; version: of Tickover that gave it."""

    number: int
    run: str
    status: Decision
    policy_name: str
    evidence: Evidence
    policy: Policy
    version: str
    outcome: dict[str, Any]
    created_at: dt.datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Latch:
    """A NOT_READY that was given for a version, and by which it stays so; immutable."""

    number: int
    run: str
    created_at: dt.datetime
    reasons: tuple[str, ...]


class VerdictStore:
    """What verdicts are kept in."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def keep(self, run: str, evidence: Evidence, policy: Policy, verdict: Verdict) -> int:
        """Store a verdict; the number of the one that is there already, if nothing it rests on is new."""
        inputs = {"evidence": _plain(evidence.to_json()), "policy": policy.judgement(), "version": __version__}
        name = digest(inputs)
        query = select(Row.id).where(Row.run == run, Row.inputs_digest == name).order_by(Row.id.desc()).limit(1)
        with self.engine.begin() as connection:
            known = connection.execute(query).scalar()
            if known is not None:
                return int(known)
            row = insert(Row).values(
                run=run,
                behaviour_key=evidence.behaviour_key,
                judgement_key=evidence.judgement_key,
                policy_name=policy.name,
                status=verdict.decision.value,
                inputs=canonical_text(inputs),
                inputs_digest=name,
                outcome=canonical_text(outcome_of(verdict)),
            )
            return int(connection.execute(row.returning(Row.id)).scalar_one())

    def latch(self, evidence: Evidence) -> Latch | None:
        """The first NOT_READY that was given for the evidence's keys, by whatever run; None if there is none."""
        query = (
            select(Row)
            .where(
                Row.behaviour_key == evidence.behaviour_key,
                Row.judgement_key == evidence.judgement_key,
                Row.status == Decision.NOT_READY.value,
            )
            .order_by(Row.id)
            .limit(1)
        )
        with self.engine.connect() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        reasons = tuple(parse(row.outcome)["reasons"])
        return Latch(number=row.id, run=row.run, created_at=row.created_at, reasons=reasons)

    def latest(self, run: str) -> Stored:
        """The verdict that was stored last for a run. Raises NoVerdict."""
        query = select(Row).where(Row.run == run).order_by(Row.id.desc()).limit(1)
        with self.engine.connect() as connection:
            row = connection.execute(query).first()
        if row is None:
            raise NoVerdict(f"no verdict of run {run} is stored; `tickover report {run}` gives one and stores it")
        inputs = parse(row.inputs)
        return Stored(
            number=row.id,
            run=row.run,
            status=Decision(row.status),
            policy_name=row.policy_name,
            evidence=evidence_from_json(inputs["evidence"]),
            policy=from_json(inputs["policy"], source=f"verdict {row.id}"),
            version=inputs["version"],
            outcome=parse(row.outcome),
            created_at=row.created_at,
        )

    def others(self, evidence: Evidence) -> list[tuple[str, str]]:
        """(policy, verdict) given for the same behaviour by another judgement, each once."""
        query = (
            select(Row.policy_name, Row.status)
            .where(Row.behaviour_key == evidence.behaviour_key, Row.judgement_key != evidence.judgement_key)
            .distinct()
            .order_by(Row.policy_name, Row.status)
        )
        with self.engine.connect() as connection:
            return [(row[0], row[1]) for row in connection.execute(query)]


def outcome_of(verdict: Verdict) -> dict[str, Any]:
    """What of a verdict a later computation must give again: the decision, why, and each criterion's figures."""
    return {
        "decision": verdict.decision.value,
        "reasons": list(verdict.reasons),
        "criteria": {
            criterion.name: {
                "status": criterion.status.value, "n": criterion.n, "bad": criterion.bad, "bound": criterion.bound,
                "evidence": criterion.evidence, "against": criterion.against,
            }
            for criterion in verdict.criteria
        },
        "gates": {gate.name: gate.is_met for gate in verdict.gates},
    }  # fmt: skip


def verify(stored: Stored) -> list[str]:
    """What a fresh computation from the stored inputs says differently, each a sentence; empty if it agrees."""
    again = _plain(outcome_of(judge(stored.evidence, stored.policy)))
    before = stored.outcome
    found: list[str] = []
    if again["decision"] != before["decision"]:
        found.append(f"the verdict was {before['decision']} and is now computed as {again['decision']}")
    for name in sorted(before["criteria"].keys() | again["criteria"].keys()):
        one, two = before["criteria"].get(name), again["criteria"].get(name)
        if one is None or two is None:
            found.append(f"criterion {name} is {'new' if one is None else 'gone'}")
            continue
        found += [
            f"{name}: {key} was {one[key]} and is now {two[key]}" for key in one if not _same(one[key], two[key])
        ]
    if again["gates"] != before["gates"]:
        found.append("the conditions were met otherwise")
    return found


def _same(one: Any, two: Any) -> bool:
    """Equal, but for the last digits in which the mathematics of two machines may differ."""
    if isinstance(one, (int, float)) and isinstance(two, (int, float)):
        return math.isclose(one, two, rel_tol=1e-9, abs_tol=1e-12)
    return bool(one == two)


def _plain(document: Any) -> Any:
    """The document as it comes back from where it is stored."""
    return parse(canonical_text(document))
