"""Which code this is: hashes of the source of modules, as it stands on disk now."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from tickover.workflow import Workflow


def code_of(module: str) -> str:
    """The hash of the source of a module with what stands beside it, or of a package's whole directory; "unknown" for
    one that has no source."""
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


def modules_of(workload: str, workflow: Workflow) -> set[str]:
    """The modules of a workload's steps. workload: `module:name`."""
    return {workload.partition(":")[0], *(step.run.__module__ for step in workflow.steps)}
