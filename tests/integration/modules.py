"""Modules that hold on to the settings with which they were imported, imported anew for one test."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def imported_anew(package: str) -> Iterator[None]:
    """Within the context each module of the package is a new one, all but its tables; afterwards the old ones are
    back, so that no later test meets two classes of one name."""

    def modules() -> dict[str, ModuleType]:
        names = [name for name in sys.modules if name.partition(".")[0] == package and name != f"{package}.models"]
        return {name: sys.modules[name] for name in names}

    before = modules()
    for name in before:
        del sys.modules[name]
    try:
        yield
    finally:
        for name in modules():
            del sys.modules[name]
        sys.modules.update(before)
