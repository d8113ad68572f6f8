"""Adapters for libraries that legacy may import: installed right after the import, whenever that is."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from tickover.boundary.session import guarded


class _AfterImport(importlib.abc.MetaPathFinder):
    """Finds what the other finders find, and calls back once it is executed."""

    def __init__(self) -> None:
        self.callbacks: dict[str, Callable[[Any], None]] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        callback = self.callbacks.pop(fullname, None)
        if callback is None:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None:
                with guarded(f"import of {fullname}"):
                    _call_after(spec.loader, callback)
                return spec
        return None


def _call_after(loader: Any, callback: Callable[[Any], None]) -> None:
    real = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        real(module)
        with guarded(f"import of {module.__name__}"):
            callback(module)

    loader.exec_module = exec_module


_finder = _AfterImport()


def after_import(name: str, callback: Callable[[Any], None]) -> None:
    """Call back with the module once it is imported; now, if it is already."""
    if name in sys.modules:
        callback(sys.modules[name])
        return
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    _finder.callbacks[name] = callback
