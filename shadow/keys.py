"""The two keys of evidence: what was run, and by which rules it was judged."""

from __future__ import annotations

from typing import Any

from shadow.plan import RunPlan
from shadow.rules import RuleBook
from tickover.canonical import digest
from tickover.code import code_of, modules_of
from tickover.workflow import Workflow


def evidence_keys(plan: RunPlan, workflow: Workflow, rules: RuleBook) -> dict[str, Any]:
    """`behaviour` (code of both systems, workload, configuration) and `judgement` (rules), with what they are made
    of."""
    modules = modules_of(plan.workload, workflow)
    if isinstance(workflow.legacy, str):
        modules.add(workflow.legacy.partition(":")[0])
    made_of = {
        "workload": plan.workload,
        "version": workflow.version,
        "code": {name: code_of(name) for name in sorted(modules)},
        "limits": {step.name: step.timeout_s for step in workflow.steps},
        "time_scale": plan.time_scale,
        "mode": plan.mode.value,
        "candidate": plan.candidate.value,
    }
    return {"behaviour": digest(made_of), "judgement": rules.digest, "made_of": made_of, "rules": rules.to_json()}
