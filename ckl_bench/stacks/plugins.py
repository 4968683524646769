"""Find a method by name: `--methods-dir`, then `./methods`, then the entry points `ckl_bench.methods`.

Only the named method is imported; listing reads the source text. The built-in methods are entry points like any other.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import sys
from dataclasses import dataclass
from functools import lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from ckl_bench.errors import UserError, unknown
from ckl_bench.method import HOOKS, Method, misspelt
from ckl_bench.stacks.importing import import_file
from ckl_bench.stacks.sources import Sources, files_below, hash_of, with_siblings

GROUP = "ckl_bench.methods"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a method comes from: a file, and the module name where it is an installed one."""

    name: str
    file: Path
    module: str | None = None  # entry point; None for a file in a folder


def canonical(name: str) -> str:
    """A method's name as it is shown: `my_method.py` is `my-method`, and either may be typed."""
    return name.strip().replace("_", "-")


def _from_folder(folder: Path) -> list[Origin]:
    if not folder.is_dir():
        return []
    files = [(f.stem, f) for f in folder.glob("*.py")] + [(f.parent.name, f) for f in folder.glob("*/__init__.py")]
    return [
        Origin(name=canonical(n), file=f.resolve())
        for n, f in sorted(files)
        if n.isidentifier() and not n.startswith(("_", "test_"))  # a method's test may lie beside it
    ]


def _installed() -> tuple[EntryPoint, ...]:
    """The entry points of all distributions; read again where one has come or gone, which changes its folder's time."""
    return _read_installed(tuple((place, _changed(place)) for place in sys.path))


@lru_cache(maxsize=1)
def _read_installed(places: tuple[tuple[str, int], ...]) -> tuple[EntryPoint, ...]:
    # Every distribution's file is opened: 10 to 30 ms, and a stack asks for each of its parts several times.
    return tuple(entry_points(group=GROUP))


def _changed(place: str) -> int:
    try:
        return os.stat(place or ".").st_mtime_ns
    except OSError:
        return -1


def _from_entry_points() -> list[Origin]:
    found = []
    for point in _installed():
        spec = _find_spec(point.module)
        if spec is not None and spec.origin:  # a half-removed distribution must not break every other method
            found.append(Origin(name=canonical(point.name), file=Path(spec.origin).resolve(), module=point.module))
    return found


def _find_spec(module: str) -> ModuleSpec | None:
    """Where a module lies; unlike importlib's own search it imports none of the packages around it."""
    name, *inner = module.split(".")
    try:
        spec = importlib.util.find_spec(name)
        for part in inner:
            inside = spec.submodule_search_locations if spec else None
            # By its last name alone: a namespace within a package would ask for the package to be imported.
            spec = PathFinder.find_spec(part, list(inside)) if inside else None
    except (ImportError, ValueError):
        return None
    return spec


def origins(methods_dir: Path | None = None) -> dict[str, Origin]:
    """Every method that can be named, without importing any.

    Raises UserError where two different files claim one name. (The repository's own `./methods` are the built-ins.)
    """
    if methods_dir is not None and not methods_dir.is_dir():
        raise UserError(f"--methods-dir {methods_dir} is not a folder; give the folder that holds your method's file")
    found: dict[str, Origin] = {}
    folders = [methods_dir] if methods_dir else []
    for origin in [*_from_entry_points(), *(o for d in [*folders, Path("methods")] for o in _from_folder(d))]:
        known = found.setdefault(origin.name, origin)
        if known.file != origin.file:
            raise UserError(
                f"two methods are named '{origin.name}': {known.file} and {origin.file}; rename or remove one"
            )
    return found


def describe(origin: Origin) -> tuple[str, str]:
    """(first line of the docstring, hooks owned) of a method, read from its source without running it."""
    try:
        tree = ast.parse(origin.file.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError, OSError) as error:
        return f"cannot be read: {error}", ""
    text = (ast.get_docstring(tree) or "").strip()
    defined = {
        item.name
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        for item in node.body
        if isinstance(item, ast.FunctionDef)
    }
    return text.splitlines()[0] if text else "(no docstring)", " ".join(h for h in HOOKS if h in defined)


def _sources(origin: Origin) -> Sources:
    """Every file that a method which is not built in is made of."""
    file = origin.file
    if origin.module is None:
        package = file.name == "__init__.py"
        return with_siblings(files_below(file.parent) if package else {file}, _folder(origin))
    package_of = _top_package(origin.module)
    if package_of is not None:
        return Sources(files=tuple(sorted(files_below(package_of))))
    point = next(p for p in _installed() if p.module == origin.module)
    shipped = {Path(str(f.locate())).resolve() for f in (point.dist.files or [] if point.dist else [])}
    # An installed module lies among everyone's; one that is worked on in place lies in a folder of its own.
    return with_siblings({file}, file.parent, shipped if file in shipped else None)


def _top_package(module: str) -> Path | None:
    """The folder of the outermost package of a module that is no mere namespace, which others may share."""
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        spec = _find_spec(".".join(parts[:depth]))
        if spec is not None and spec.origin:
            return Path(spec.origin).resolve().parent if spec.submodule_search_locations else None
    return None


def _folder(origin: Origin) -> Path:
    """The folder in which a method's file or package lies."""
    return origin.file.parent.parent if origin.file.name == "__init__.py" else origin.file.parent


def _import(origin: Origin) -> ModuleType:
    try:
        if origin.module:
            return importlib.import_module(origin.module)
        return import_file(origin.file, origin.name.replace("-", "_"), _folder(origin), _sources(origin).plain)
    except Exception as error:  # whatever a plugin raises while it is imported is the plugin's own fault
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise UserError(
            f"method '{origin.name}' cannot be imported ({origin.file}{where}): {type(error).__name__}: {error}"
        ) from error


def plugin_hash(name: str, methods_dir: Path | None = None) -> str | None:
    """SHA-256 of all files that a method is made of; None for a built-in one, which the commit identifies.

    Of a folder's method: its file, or every file of its package, and what these import from beside them. Of an
    installed one: every file of its outermost package, or its module with what that imports of its distribution. What
    is hidden or cached does not count. Raises UserError as `load_method` does.
    """
    origin = _origin(name, methods_dir)
    return None if _built_in(origin) else hash_of(_sources(origin), origin.file)


def _built_in(origin: Origin) -> bool:
    return origin.module is not None and origin.module.startswith("ckl_bench_methods.")


def _origin(name: str, methods_dir: Path | None) -> Origin:
    known, name = origins(methods_dir), canonical(name)
    if name not in known:
        raise unknown("method", name, known)
    return known[name]


def load_method(name: str, methods_dir: Path | None = None) -> type[Method]:
    """Import the named method and return its class.

    Raises UserError for an unknown name, for a file that cannot be imported, for one that does not define exactly one
    method as a frozen dataclass, and for a public name in it that is nearly a hook's.
    """
    origin = _origin(name, methods_dir)
    method = _only_class(origin, _import(origin))
    params = vars(method).get("__dataclass_params__")  # its own, not the one it inherits
    if params is None or not params.frozen:
        raise UserError(f"{origin.file}: put @dataclass(frozen=True, kw_only=True) on {method.__name__}")
    for slip, meant in misspelt(method):
        raise UserError(
            f"{origin.file}: {method.__name__}.{slip} is no hook and would never be called; did you mean '{meant}'? "
            f"A helper of your own may be called '_{slip}'"
        )
    return method


def _only_class(origin: Origin, module: ModuleType) -> type[Method]:
    """The one method of a module: defined there, else brought there from another of the plugin's files."""
    known = {item: None for item in vars(module).values() if isinstance(item, type) and issubclass(item, Method)}
    classes = [item for item in known if item.__module__ == module.__name__]
    if not classes and not _built_in(origin):
        files = {file.resolve() for file in _sources(origin).files}
        classes = [item for item in known if _file(item) in files]
    if len(classes) != 1:
        raise UserError(
            f"{origin.file} defines {len(classes)} methods, expected one subclass of ckl_bench.method.Method"
        )
    return classes[0]


def _file(item: type) -> Path | None:
    place = getattr(sys.modules.get(item.__module__), "__file__", None)
    return Path(place).resolve() if place else None
