"""Loading by name: `module:name`."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from tickover.errors import WorkloadNotFound
from tickover.workflow import Workflow


def load_object(reference: str) -> Any:
    """What `module:name` (dots allowed in both) refers to. Raises WorkloadNotFound with what is wrong and what
    would do.

    The working directory is importable, as it is for a script, and comes first: a project's own `legacy`, `shadow`,
    `reports` or `cli` is what its modules import, also where Tickover's packages of these names are loaded.
    """
    module_name, colon, name = reference.partition(":")
    if not colon or not module_name or not name:
        raise WorkloadNotFound(f"{reference!r} is not of the form module:name, for instance digital_being:heavy_tick")
    try:
        with _project_first(Path.cwd()):
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


# Top packages of Tickover's that a project may have of its own. Workers and the legacy process load none of them.
_NAMES = ("legacy", "shadow", "reports", "cli", "digital_being", "examples", "migrations")


@contextlib.contextmanager
def _project_first(here: Path) -> Iterator[None]:
    """Have imports find what stands in `here`; Tickover's own packages of those names are put back afterwards."""
    if str(here) not in sys.path and "" not in sys.path:
        sys.path.append(str(here))
    own = [name for name in _NAMES if (here / name).is_dir() or (here / f"{name}.py").exists()]
    taken = [name for name in own if name in sys.modules and not _stands_in(sys.modules[name], here)]
    ours = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in taken}
    if own:
        sys.path.insert(0, str(here))
    try:
        yield
    finally:
        if own:
            sys.path.remove(str(here))
        for name in [name for name in sys.modules if name.partition(".")[0] in taken]:
            del sys.modules[name]
        sys.modules.update(ours)


def _stands_in(module: ModuleType, here: Path) -> bool:
    places = [*getattr(module, "__path__", ()), getattr(module, "__file__", None)]
    return any(place is not None and Path(place).resolve().is_relative_to(here.resolve()) for place in places)


def load_workload(reference: str) -> Workflow:
    """The Workflow that `module:name` refers to. Raises WorkloadNotFound if it is something else."""
    found = load_object(reference)
    if not isinstance(found, Workflow):
        raise WorkloadNotFound(f"{reference!r} is a {type(found).__name__}, not a tickover.Workflow")
    return found
