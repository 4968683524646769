"""Import a plugin's file, and let it import what lies beside it, without changing `sys.path` for anyone."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType


class _Beside:
    """Finds what plugins import from beside them by its plain name, where nothing installed has that name.

    It stands last in `sys.meta_path` and stays there, since a hook may import when it is called.
    """

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}

    def serve(self, names: Iterable[str], folder: Path) -> None:
        """Find these modules in the folder from now on, read anew."""
        for name in names:
            if name in self._folders:
                _forget(name)
            self._folders[name] = str(folder)
        if self not in sys.meta_path:
            sys.meta_path.append(self)

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The module of that name, as Python's own finders have it."""
        return PathFinder.find_spec(name, [self._folders[name]]) if name in self._folders else None


_beside = _Beside()


def import_file(file: Path, name: str, folder: Path, plain: Iterable[str]) -> ModuleType:
    """Import a plugin's file, or its package's `__init__.py`, anew, as the module `name` of a package of its own.

    That package is `folder`: `from .helper import x` finds what lies beside the plugin, and never another plugin's
    module of that name. `plain` are the names by which it imports from `folder` without a dot. Raises what the file
    raises.
    """
    around = f"ckl_bench_plugin_{name}"
    _forget(around)
    importlib.invalidate_caches()  # a file may be younger than what was last read of its folder
    _beside.serve(plain, folder)
    sys.modules[around] = ModuleType(around)
    sys.modules[around].__path__ = [str(folder)]
    inside = [str(file.parent)] if file.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(f"{around}.{name}", file, submodule_search_locations=inside)
    if spec is None or spec.loader is None:
        raise ImportError("not a Python source file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and relative imports look it up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        _forget(around)
        raise
    return module


def _forget(name: str) -> None:
    for module in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
        del sys.modules[module]
