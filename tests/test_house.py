"""The house is kept: imports go down the wings, what only looks loads nothing heavy, no room is Unix's alone."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ckl_bench

PACKAGE = Path(ckl_bench.__file__).parent
ROOT = PACKAGE.parent
HEAVY = {
    *("torch", "transformers", "datasets", "pandas", "scipy"),
    *("matplotlib", "peft", "duckdb", "pyarrow", "safetensors"),
    *("ray", "submitit", "vllm", "accelerate"),
}
UNIX = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog"}
# What `--help`, `methods`, `models`, `benchmarks` and `leaderboard` are made of.
LIGHT = ("cli.app", "stacks.plugins", "stacks.stack", "models.catalogue", "benchmarks.catalogue", "records")
LOOKING = (*LIGHT, "results.tables", "storage.writing")
WATCHING = ("running.remote", "running.job")  # what is loaded where a run is only watched


def source(module: str) -> Path | None:
    """The file of a module of ours."""
    path = ROOT / module.replace(".", "/")
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def at_the_top(module: str) -> Iterator[str]:
    """Every module that is imported when this one is: not inside functions, nor for types alone."""
    path = source(module)
    waiting: list[ast.AST] = list(ast.parse(path.read_text(encoding="utf-8")).body) if path else []
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert path is not None
            inside = path.parent if path.name == "__init__.py" else path
            above = ".".join(inside.relative_to(ROOT).parts[: len(inside.relative_to(ROOT).parts) - node.level])
            package = f"{above}.{node.module}" if node.level and node.module else above if node.level else node.module
            yield package or ""
            yield from (f"{package}.{name.name}" for name in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def reached(roots: Iterator[str] | list[str]) -> dict[str, str]:
    """Every module that is loaded with these, with the one that loads it."""
    found, waiting = dict.fromkeys(roots, ""), list(roots)
    while waiting:
        module = waiting.pop()
        parents = [module.rsplit(".", n)[0] for n in range(1, module.count(".") + 1)] if source(module) else []
        for name in [*at_the_top(module), *parents]:
            if name not in found and (source(name) or not name.startswith("ckl_bench")):
                found[name] = module
                waiting += [name] if source(name) else []
    return found


def every_module() -> list[str]:
    files = (path.relative_to(ROOT).with_suffix("") for path in PACKAGE.rglob("*.py"))
    return sorted(".".join(file.parts).removesuffix(".__init__") for file in files)


@pytest.mark.parametrize("root", LOOKING + WATCHING)
def test_what_only_looks_imports_nothing_heavy_at_its_top(root: str) -> None:
    found = reached([f"ckl_bench.{root}"])
    assert f"ckl_bench.{root}" in found
    assert source(f"ckl_bench.{root}")
    assert len(found) > 1
    assert {name: by for name, by in found.items() if name.split(".")[0] in HEAVY} == {}


def test_no_module_imports_at_its_top_what_is_an_extra() -> None:
    found = reached(every_module())
    assert {
        name: by for name, by in found.items() if name.split(".")[0] in {"ray", "submitit", "vllm", "lm_eval"}
    } == {}


def test_a_heavy_import_at_the_top_would_be_found() -> None:
    by = reached(["ckl_bench.learning.run"])
    assert by["torch"].startswith("ckl_bench.")
    assert "ckl_bench.storage.locks" in by  # through other rooms


def loaded_by(words: str, folder: Path, code: int = 0) -> set[str]:
    """The packages that a command has loaded when it ends, with this exit code."""
    told = (
        "import atexit, sys\nfrom ckl_bench.cli.app import main\n"
        "atexit.register(lambda: print('loaded', *sorted({name.split('.')[0] for name in sys.modules})))\n"
        "main(sys.argv[1:])"
    )
    done = subprocess.run([sys.executable, "-c", told, *words.split()], cwd=folder, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    first, *names = done.stdout.splitlines()[-1].split()
    assert first == "loaded"
    return set(names)


@pytest.mark.parametrize(
    ("words", "loaded"),
    [
        *((words, set()) for words in ("--help", "methods", "models", "benchmarks")),
        ("leaderboard --output .", {"pandas", "scipy"}),
    ],
)
def test_a_command_that_only_looks_loads_nothing_heavy(words: str, loaded: set[str], tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    shutil.copy(ROOT / "tests" / "data" / "tiny-record.json", tmp_path / "records")
    assert (HEAVY - {"pyarrow"}) & loaded_by(words, tmp_path) == loaded  # pyarrow comes with pandas


def test_a_sweep_for_a_cluster_that_is_not_there_ends_before_anything_heavy(tmp_path: Path) -> None:
    assert HEAVY & loaded_by("sweep --method lora --model tiny --address 127.0.0.1:1", tmp_path, code=2) == set()


@pytest.mark.slow
def test_a_run_loads_no_cluster_and_no_other_engine(tmp_path: Path) -> None:
    found = loaded_by("run --method finetune --model tiny --limit 2 --epochs 1", tmp_path)
    assert "torch" in found
    assert {"ray", "submitit", "vllm", "lm_eval"} & found == set()


def test_no_module_is_kept_from_being_imported_where_there_is_no_unix() -> None:
    without = {module: UNIX & {name.split(".")[0] for name in at_the_top(module)} for module in every_module()}
    assert len(without) > 60
    assert {module: names for module, names in without.items() if names} == {}
    code = (
        f"import importlib, sys\nsys.modules.update(dict.fromkeys({sorted(UNIX)!r}))\n"
        f"for name in {every_module()!r}:\n    importlib.import_module(name)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("room", "line", "broken"),
    [
        ("ckl_bench/storage/seals.py", "from ckl_bench.learning import run", "imports go down the line of data"),
        ("ckl_bench/records.py", "def late():\n    import ckl_bench.cli.app", "imports go down the line of data"),
        ("ckl_bench/learning/train.py", "import ckl_bench.learning.stages", "within a wing no two rooms"),
        ("ckl_bench/stacks/stack.py", "import ckl_bench_methods.lora", "the package knows no method"),
        ("ckl_bench_methods/rho1.py", "import ckl_bench.results.rows", "methods stand between learning and results"),
        ("ckl_bench/garden.py", '"""A room of no wing."""', "imports go down the line of data"),
        ("ckl_bench/errors.py", "", None),
    ],
)
def test_an_import_that_runs_up_fails_the_build(room: str, line: str, broken: str | None, tmp_path: Path) -> None:
    skip = shutil.ignore_patterns("__pycache__")
    for name, folder in (("ckl_bench", "ckl_bench"), ("ckl_bench_methods", "methods")):
        shutil.copytree(ROOT / folder, tmp_path / name, ignore=skip)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with open(tmp_path / room, "a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    code = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command as c; c()"
    done = subprocess.run([sys.executable, "-c", code, "--no-cache"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == (1 if broken else 0), done.stdout + done.stderr
    assert broken is None or any(broken in x and "BROKEN" in x for x in done.stdout.splitlines()), done.stdout
