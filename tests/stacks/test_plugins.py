"""Someone else's method: installed as a distribution, from a folder, broken beside others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from ckl_bench.errors import UserError
from ckl_bench.method import HOOKS, Method, misspelt
from ckl_bench.stacks.plugins import load_method
from ckl_bench.testing import check_method
from conftest import Command
from helpers.children import start
from helpers.plugin import PLUGIN

PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "ckl-half"
version = "0.1"
[project.entry-points."ckl_bench.methods"]
half = "ckl_half"
[tool.setuptools]
py-modules = ["ckl_half"]
"""


class Ran(NamedTuple):
    """How a run ended, and what it printed."""

    code: int | None
    out: str
    err: str


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH with the distribution `ckl-half`, built and installed by pip."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    (source / "pyproject.toml").write_text(PYPROJECT)
    (source / "ckl_half.py").write_text(PLUGIN)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "-q", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def lists(where: Path, installed: Path) -> subprocess.CompletedProcess[str]:
    """`ckl-bench methods`, by a Python that has found what is installed as it started."""
    command = [sys.executable, "-m", "ckl_bench", "methods"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(installed), os.getenv("PYTHONPATH")]))}
    return subprocess.run(command, capture_output=True, text=True, cwd=where, env=environment)


def _find(installed: Path) -> None:
    sys.path.insert(0, str(installed))


def runs(where: Path, installed: Path, *arguments: object) -> Ran:
    """`ckl-bench run` beside what is installed, in a process of its own."""
    child = start(["run", *arguments], where, where.parent / f"{where.name}-logs", before=partial(_find, installed))
    return Ran(child.wait(120), child.out.read_text(), child.err.read_text())


def test_an_installed_distribution_runs_through_the_command(installed: Path, small: Path, tmp_path: Path) -> None:
    listed = lists(tmp_path, installed)
    assert "Half weights: every second token counts." in listed.stdout
    run = ("--method", "half", "--set", "half.start=1", "--model", "tiny", "--benchmark", small, "--json")
    done = runs(tmp_path, installed, *run)
    assert done.code == 0, done.err
    assert json.loads(done.out)["spec"]["method"] == "half(start=1)+lora"


def test_a_folder_may_not_shadow_an_installed_method(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "half.py").write_text(PLUGIN)
    done = lists(tmp_path, installed)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert str(installed / "ckl_half.py") in done.stderr
    assert str(tmp_path / "methods" / "half.py") in done.stderr


def test_a_syntax_error_breaks_only_its_own_plugin(installed: Path, small: Path, tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "bad.py").write_text("def (:\n")
    listed = lists(tmp_path, installed)
    assert listed.returncode == 0
    assert "cannot be read" in listed.stdout
    run = ("--model", "tiny", "--benchmark", small, "--json", "--method")
    assert runs(tmp_path, installed, *run, "half").code == 0
    broken = runs(tmp_path, installed, *run, "bad")
    assert (broken.code, broken.err.count("\n")) == (2, 1)
    assert "bad.py, line 1): SyntaxError" in broken.err


def test_an_installed_package_runs_only_when_its_method_is_named(small: Path, tmp_path: Path) -> None:
    target, proof = tmp_path / "installed", tmp_path / "proof"
    (target / "loud").mkdir(parents=True)
    (target / "loud" / "__init__.py").write_text(f"from pathlib import Path\n\nPath({str(proof)!r}).touch()\n")
    (target / "loud" / "method.py").write_text(PLUGIN)
    about = target / "loud-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: loud\nVersion: 0.1\n")
    (about / "entry_points.txt").write_text("[ckl_bench.methods]\nloud = loud.method\nlost = lost.method\n")
    run = ("--model", "tiny", "--benchmark", small, "--method")
    listed = lists(tmp_path, target)
    assert "loud" in listed.stdout
    assert "lost" not in listed.stdout
    other = runs(tmp_path, target, *run, "lora")
    assert other.code == 0, other.err
    assert not proof.exists()
    named = runs(tmp_path, target, *run, "loud")
    assert named.code == 0, named.err
    assert proof.exists()


def test_an_alias_is_no_second_method_but_a_second_class_is(tmp_path: Path, small: Path, command: Command) -> None:
    (tmp_path / "half.py").write_text(PLUGIN + "\nmethod = Half\n")
    run = ("run", "--model", "tiny", "--benchmark", small, "--methods-dir", tmp_path, "--method", "half", "--json")
    done = command(*run)
    assert done.code == 0, done.err
    (tmp_path / "half.py").write_text(
        PLUGIN + "\n@dataclass(frozen=True, kw_only=True)\nclass Other(Half):\n    pass\n"
    )
    refused = command(*run)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "defines 2 methods" in refused.err


def test_a_class_may_come_from_another_file_of_the_plugin(tmp_path: Path) -> None:
    package = tmp_path / "packed"
    package.mkdir()
    (package / "__init__.py").write_text('"""Packed."""\nfrom ckl_bench.method import Method\nfrom .impl import Half\n')
    (package / "impl.py").write_text(PLUGIN)
    (tmp_path / "thin.py").write_text('"""Thin."""\nfrom .packed.impl import Half\n')
    (tmp_path / "built_in.py").write_text('"""Not its own."""\nfrom ckl_bench_methods.lora import Lora\n')
    assert load_method("packed", tmp_path).__name__ == "Half"
    assert load_method("thin", tmp_path).__name__ == "Half"
    with pytest.raises(UserError, match="defines 0 methods"):
        load_method("built-in", tmp_path)


SLIPS = {
    "penalti": "penalty",
    "penlty": "penalty",
    "wiegh": "weigh",
    "wieghts": "weigh",
    "weight": "weigh",
    "streams": "stream",
    "optimiser": "optimizer",
    "preperation": "preparation",
    "input": "inputs",
    "biuld": "build",
    "scorings": "scoring",
}
OWN = ["scores", "build_adapter", "weights_of", "stream_length", "inputs_of", "builder", "master", "anneal", "score"]
METHODS = "    def {}(self):\n        return 1\n"


def slips_of(hook: str) -> set[str]:
    """Every letter missing, doubled, another, or in its neighbour's place; another case; an underscore too many."""
    spots = range(len(hook))
    missing = {hook[:i] + hook[i + 1 :] for i in spots}
    more = {hook[:i] + letter + hook[i:] for i in spots for letter in (hook[i], "x")}
    other = {hook[:i] + letter + hook[i + 1 :] for i in spots for letter in "aeiq"}
    turned = {hook[:i] + hook[i + 1] + hook[i] + hook[i + 2 :] for i in spots[:-1]}
    return (missing | more | other | turned | {hook.title(), hook.upper(), f"{hook}_", f"{hook}s"}) - {hook}


@pytest.mark.parametrize("hook", HOOKS)
def test_one_slip_in_any_hook_is_found(hook: str) -> None:
    for slip in slips_of(hook):
        made = type("Made", (Method,), {slip: lambda self: None})
        assert [name for name, meant in misspelt(made) if meant == hook] == [slip], slip
    assert not list(misspelt(type("Made", (Method,), dict.fromkeys([hook, f"_{hook}x"], lambda self: None))))


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("kind", ["def", "lambda", "partial"])
def test_check_method_and_run_refuse_a_misspelt_hook(hook: str, kind: str, tmp_path: Path, command: Command) -> None:
    slip = hook[0] + hook[2] + hook[1] + hook[3:]
    body = {
        "def": METHODS.format(slip),
        "lambda": f"    {slip} = lambda self, *given: None\n",
        "partial": f"    {slip} = __import__('functools').partialmethod(print)\n",
    }[kind]
    (tmp_path / "half.py").write_text(PLUGIN + body)
    said = f"{slip} is no hook and would never be called; did you mean '{hook}'?"
    checked = command("check-method", tmp_path / "half.py")
    assert (checked.code, "FAIL  importable" in checked.out) == (1, True)
    assert said in checked.out
    refused = command("run", "--method", "half", "--model", "tiny", "--methods-dir", tmp_path)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert said in refused.err


ALIASES = ["method = Half", "Method2 = Other = Half", "ALL = {'half': Half}\nclass_ = ALL['half']"]


@pytest.mark.parametrize("alias", ALIASES)
def test_any_alias_is_no_second_method(alias: str, tmp_path: Path) -> None:
    (tmp_path / "half.py").write_text(f"{PLUGIN}\n{alias}\n")
    assert load_method("half", tmp_path).__name__ == "Half"
    first = next(check_method(str(tmp_path / "half.py")))
    assert (first.passed, first.detail) == (True, "class Half, owns weigh")


@pytest.mark.parametrize("slip", SLIPS)
def test_a_name_that_is_nearly_a_hooks_is_refused(slip: str, tmp_path: Path, command: Command) -> None:
    (tmp_path / "half.py").write_text(PLUGIN + METHODS.format(slip))
    refused = command("run", "--method", "half", "--model", "tiny", "--methods-dir", tmp_path)
    assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1)
    assert f"Half.{slip} is no hook" in refused.err
    assert f"did you mean '{SLIPS[slip]}'?" in refused.err


def test_a_slip_in_a_base_is_refused_by_check_method_too(tmp_path: Path, command: Command) -> None:
    base = "class Base:\n    @classmethod\n    def for_chek(cls):\n        return {}\n\n@dataclass("
    (tmp_path / "half.py").write_text(PLUGIN.replace("@dataclass(", base).replace("(Method)", "(Base, Method)"))
    checked = command("check-method", tmp_path / "half.py")
    assert checked.code == 1
    assert "FAIL  importable" in checked.out
    assert "did you mean 'for_check'?" in checked.out


def test_names_of_ones_own_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "half.py").write_text(PLUGIN + "".join(METHODS.format(name) for name in [*OWN, "_penalti"]))
    assert load_method("half", tmp_path).__name__ == "Half"
