"""Find a method by name: `--methods-dir`, then `./methods`, then the entry points `ckl_bench.methods`.

Only the named method is imported; listing reads the source text. The built-in methods are entry points like any other.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from ckl_bench.errors import UserError, unknown
from ckl_bench.method import HOOKS, Method
from ckl_bench.storage.files import sha256_file
from ckl_bench.storage.json import sha256_json

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


def _from_entry_points() -> list[Origin]:
    found = []
    for point in entry_points(group=GROUP):
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
            name = f"{name}.{part}"
            inside = spec.submodule_search_locations if spec else None
            spec = PathFinder.find_spec(name, inside) if inside else None
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


def _module_name(origin: Origin) -> str:
    return f"ckl_bench_plugin_{origin.name.replace('-', '_')}"


def _import(origin: Origin) -> ModuleType:
    try:
        if origin.module:
            return importlib.import_module(origin.module)
        name = _module_name(origin)
        package = [str(origin.file.parent)] if origin.file.name == "__init__.py" else None
        spec = importlib.util.spec_from_file_location(name, origin.file, submodule_search_locations=package)
        if spec is None or spec.loader is None:
            raise ImportError("not a Python source file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses and relative imports look it up there
        spec.loader.exec_module(module)
        return module
    except Exception as error:  # whatever a plugin raises while it is imported is the plugin's own fault
        sys.modules.pop(_module_name(origin), None)
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise UserError(
            f"method '{origin.name}' cannot be imported ({origin.file}{where}): {type(error).__name__}: {error}"
        ) from error


def plugin_hash(name: str, methods_dir: Path | None = None) -> str | None:
    """SHA-256 of a method's source, all files of a package; None for a built-in one, which the commit identifies.

    Raises UserError as `load_method` does.
    """
    origin = _origin(name, methods_dir)
    if origin.module and origin.module.startswith("ckl_bench_methods."):
        return None
    if origin.file.name != "__init__.py":
        return sha256_file(origin.file)
    folder = origin.file.parent
    return sha256_json({str(file.relative_to(folder)): sha256_file(file) for file in folder.rglob("*.py")})


def _origin(name: str, methods_dir: Path | None) -> Origin:
    known, name = origins(methods_dir), canonical(name)
    if name not in known:
        raise unknown("method", name, known)
    return known[name]


def load_method(name: str, methods_dir: Path | None = None) -> type[Method]:
    """Import the named method and return its class.

    Raises UserError for an unknown name, for a file that cannot be imported, and for one that does not define exactly
    one method as a frozen dataclass.
    """
    origin = _origin(name, methods_dir)
    module = _import(origin)
    classes = [
        item
        for item in vars(module).values()
        if isinstance(item, type) and issubclass(item, Method) and item.__module__ == module.__name__
    ]
    if len(classes) != 1:
        raise UserError(
            f"{origin.file} defines {len(classes)} methods, expected one subclass of ckl_bench.method.Method"
        )
    method = classes[0]
    params = vars(method).get("__dataclass_params__")  # its own, not the one it inherits
    if params is None or not params.frozen:
        raise UserError(f"{origin.file}: put @dataclass(frozen=True, kw_only=True) on {method.__name__}")
    return method
