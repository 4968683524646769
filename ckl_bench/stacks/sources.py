"""The files on which a plugin's results depend, found by reading its source; nothing is imported here."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

from ckl_bench.storage.files import sha256_file
from ckl_bench.storage.json import sha256_json


@dataclass(frozen=True, kw_only=True)
class Sources:
    """A plugin's files, absolute and sorted, and the modules beside it that it imports by their plain names."""

    files: tuple[Path, ...]
    plain: frozenset[str] = frozenset()


def files_below(folder: Path) -> set[Path]:
    """Every file of a package, its data files too; not what is hidden or cached."""

    def counts(parts: tuple[str, ...]) -> bool:
        return not any(part.startswith(".") or part == "__pycache__" for part in parts)

    return {f for f in folder.rglob("*") if counts(f.relative_to(folder).parts) and f.is_file()}


def with_siblings(own: set[Path], root: Path, among: Collection[Path] | None = None) -> Sources:
    """A plugin's own files with the modules and packages in `root` that they import, directly or through one another.

    `among` are the only files that may join, where `root` is a folder that others install into.
    """
    found, waiting, plain = set(own), sorted(own), set()
    while waiting:
        for folder, name, by_plain_name in _imports(waiting.pop(), root):
            joins = _module(folder, name)
            if among is not None:
                joins &= set(among)
            if not joins or (by_plain_name and _elsewhere(name, root)):
                continue
            if by_plain_name:
                plain.add(name)
            waiting += sorted(joins - found)
            found |= joins
    return Sources(files=tuple(sorted(found)), plain=frozenset(plain))


def hash_of(sources: Sources, file: Path) -> str:
    """SHA-256 of the plugin whose module is `file`: of that file where it is alone, else of all files and paths."""
    if sources.files == (file,) and file.name != "__init__.py":
        return sha256_file(file)
    return sha256_json({Path(os.path.relpath(f, file.parent)).as_posix(): sha256_file(f) for f in sources.files})


def _imports(file: Path, root: Path) -> Iterator[tuple[Path, str, bool]]:
    """(folder, first name, whether by its plain name) of all that a file may import from `root` or below."""
    if file.suffix != ".py":
        return
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError, OSError):
        return  # importing it says in one line what is wrong
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            node = _by_name(node)
        if isinstance(node, ast.Import):
            yield from ((root, alias.name.partition(".")[0], True) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield root, (node.module or "").partition(".")[0], True
        elif isinstance(node, ast.ImportFrom) and node.level <= len(file.parents):
            folder = file.parents[node.level - 1]
            if folder.is_relative_to(root):
                names = [node.module.partition(".")[0]] if node.module else [alias.name for alias in node.names]
                yield from ((folder, name, False) for name in names)


def _by_name(call: ast.Call) -> ast.AST:
    """`import_module("helper")` and `__import__("helper")` as the statement that says the same; else the call."""
    called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    named = call.args[0] if call.args else None
    if called not in ("import_module", "__import__") or not isinstance(named, ast.Constant):
        return call
    name = str(named.value)
    inner = name.lstrip(".")
    if inner == name:
        return ast.Import(names=[ast.alias(name=name)])
    return ast.ImportFrom(module=inner or None, names=[], level=len(name) - len(inner))


def _module(folder: Path, name: str) -> set[Path]:
    """The files of a module or package that lies in a folder; none where there is none of that name."""
    package, module = folder / name, folder / f"{name}.py"
    if (package / "__init__.py").is_file():
        return files_below(package)
    if module.is_file():
        return {module}
    return files_below(package) if any(package.glob("*.py")) else set()


def _elsewhere(name: str, root: Path) -> bool:
    """Whether a plain name means a module of Python's or an installed one, which come before what lies in `root`."""
    if name in sys.stdlib_module_names or name in ("ckl_bench", "ckl_bench_methods"):
        return True
    spec = PathFinder.find_spec(name)
    if spec is None:
        return False
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or [])
    beside = {root / f"{name}.py", root / name / "__init__.py", root / name}
    return not any(Path(place).resolve() in beside for place in places)
