"""Loading by name: `module:name`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from tickover.errors import WorkloadNotFound
from tickover.workflow import Workflow


def load_object(reference: str) -> Any:
    """What `module:name` (dots allowed in both) refers to. Raises WorkloadNotFound with what is wrong and what
    would do.

    The working directory is importable, as it is for a script.
    """
    module_name, colon, name = reference.partition(":")
    if not colon or not module_name or not name:
        raise WorkloadNotFound(f"{reference!r} is not of the form module:name, for instance digital_being:heavy_tick")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise WorkloadNotFound(
                f"there is no module {error.name!r} (for {reference!r}); "
                "run from the directory that holds it, or set PYTHONPATH"
            ) from error
        raise WorkloadNotFound(f"{module_name} needs the module {error.name!r}, which is not installed") from error
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise WorkloadNotFound(f"module {module_name!r} has no {name!r} (for {reference!r})") from None
    return found


def load_workload(reference: str) -> Workflow:
    """The Workflow that `module:name` refers to. Raises WorkloadNotFound if it is something else."""
    found = load_object(reference)
    if not isinstance(found, Workflow):
        raise WorkloadNotFound(f"{reference!r} is a {type(found).__name__}, not a tickover.Workflow")
    return found
