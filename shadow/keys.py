"""The two keys of evidence: what was run, and by which rules it was judged."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

from shadow.plan import RunPlan
from shadow.rules import RuleBook
from tickover.canonical import digest
from tickover.workflow import Workflow


def evidence_keys(plan: RunPlan, workflow: Workflow, rules: RuleBook) -> dict[str, Any]:
    """`behaviour` (code of both systems, workload, configuration) and `judgement` (rules), with what they are made
    of."""
    modules = {plan.workload.partition(":")[0], *(step.run.__module__ for step in workflow.steps)}
    if isinstance(workflow.legacy, str):
        modules.add(workflow.legacy.partition(":")[0])
    made_of = {
        "workload": plan.workload,
        "version": workflow.version,
        "code": {name: _code_of(name) for name in sorted(modules)},
        "limits": {step.name: step.timeout_s for step in workflow.steps},
        "time_scale": plan.time_scale,
        "mode": plan.mode.value,
        "candidate": plan.candidate.value,
    }
    return {"behaviour": digest(made_of), "judgement": rules.digest, "made_of": made_of, "rules": rules.to_json()}


def _code_of(module: str) -> str:
    """The hash of the source of a module, or of a package's whole directory."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return "unknown"
    origin = Path(spec.origin)
    files = (
        sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else sorted(origin.parent.glob("*.py"))
    )
    found = hashlib.sha256()
    for path in files:
        found.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()
