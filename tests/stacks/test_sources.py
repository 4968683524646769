"""What a plugin's results depend on joins its identity: its package, and what it imports from beside it."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest

from ckl_bench.stacks.plugins import load_method, plugin_hash
from conftest import Command
from helpers.plugin import PLUGIN

# Half weights, its share taken from a module beside it, in each way that Python has to say so.
PLAIN = PLUGIN.replace("import torch\n", "import torch\nimport helper\n").replace("self.share", "helper.SHARE")
LATE = PLAIN.replace("import helper\n", "").replace("        marks[", "        import helper\n            marks[")
WAYS = {
    "import": PLAIN,
    "from": PLUGIN.replace("import torch\n", "import torch\nfrom helper import SHARE\n").replace("self.share", "SHARE"),
    "relative": PLAIN.replace("import helper", "from . import helper"),
    "relative-from": PLAIN.replace("import helper", "from .helper import SHARE").replace("helper.SHARE", "SHARE"),
    "import_module": PLAIN.replace("import helper", "import importlib\nhelper = importlib.import_module('helper')"),
    "relative, by name": PLAIN.replace(
        "import helper", "from importlib import import_module\nhelper = import_module('.helper', __package__)"
    ),
    "in a hook": LATE,
    "relative, in a hook": LATE.replace("import helper", "from . import helper"),
}


def run_id(result: str) -> str:
    return str(json.loads(result)["run_id"])


@pytest.mark.parametrize("way", WAYS)
def test_an_edited_helper_makes_another_run(way: str, tmp_path: Path, small: Path, command: Command) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "split.py").write_text(WAYS[way])
    (folder / "helper.py").write_text("from deeper import SHARE\n" if "relative" not in way else "SHARE = 0.5\n")
    (folder / "deeper.py").write_text("SHARE = 0.5\n")
    run = ("run", "--method", "split", "--model", "tiny", "--benchmark", small, "--methods-dir", folder, "--json")
    path_before, first = list(sys.path), command(*run)
    assert first.code == 0, first.err
    again = command(*run)
    assert "is done already" in again.err
    assert run_id(again.out) == run_id(first.out)
    (folder / ("helper.py" if "relative" in way else "deeper.py")).write_text("SHARE = 0.25  # less\n")
    other = command(*run)
    assert other.code == 0, other.err
    assert "is done already" not in other.err
    assert run_id(other.out) != run_id(first.out)
    assert sys.path == path_before


def test_a_file_by_itself_is_identified_by_its_own_hash(tmp_path: Path) -> None:
    (tmp_path / "half.py").write_text("import random\n" + PLUGIN)  # Python's own, not what lies beside it
    (tmp_path / "random.py").write_text("raise RuntimeError\n")
    (tmp_path / "torch.py").write_text("raise RuntimeError\n")
    (tmp_path / "unrelated.py").write_text("VALUE = 1\n")
    own = hashlib.sha256((tmp_path / "half.py").read_bytes()).hexdigest()
    assert plugin_hash("half", tmp_path) == own
    assert load_method("half", tmp_path).__name__ == "Half"


def test_every_file_of_a_package_counts_and_no_hidden_or_cached_one(tmp_path: Path) -> None:
    package = tmp_path / "packed"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text(PLUGIN + "from ..beside import VALUE\n")
    (tmp_path / "beside.py").write_text("VALUE = 1\n")
    seen = {plugin_hash("packed", tmp_path)}
    for name in ("inner/deep.py", "table.json", "words.txt", "sizes.toml", "../beside.py"):
        (package / name).write_text("2\n" if name.endswith("json") else "VALUE = 2\n")
        found = plugin_hash("packed", tmp_path)
        assert found not in seen, name
        seen.add(found)
    load_method("packed", tmp_path)
    for name in (".hidden", "__pycache__/x.pyc", ".git/HEAD", "../stranger.py"):
        (package / name).parent.mkdir(exist_ok=True)
        (package / name).write_text("x")
        assert plugin_hash("packed", tmp_path) == found, name


def test_a_package_of_python_files_keeps_its_identity(tmp_path: Path) -> None:
    package = tmp_path / "packed"
    package.mkdir()
    (package / "__init__.py").write_text(PLUGIN)
    (package / "other.py").write_text("VALUE = 1\n")
    files = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in package.glob("*.py")}
    text = json.dumps(files, sort_keys=True, separators=(",", ":"))
    assert plugin_hash("packed", tmp_path) == hashlib.sha256(text.encode()).hexdigest()


def test_siblings_that_import_each_other_or_cannot_be_read_end(tmp_path: Path) -> None:
    (tmp_path / "half.py").write_text(PLUGIN + "import one\n")
    (tmp_path / "one.py").write_text("import two\n")
    (tmp_path / "two.py").write_text("import one, half\nfrom ....... import far\nfrom . import three\n")
    (tmp_path / "three.py").write_text("def (:\n")
    before = plugin_hash("half", tmp_path)
    (tmp_path / "three.py").write_text("def ((:\n")
    assert plugin_hash("half", tmp_path) != before


def test_two_folders_with_a_helper_each_read_their_own(tmp_path: Path) -> None:
    for name, share in (("first", 0.125), ("second", 0.75)):
        for statement in ("import helper", "from . import helper"):
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            (folder / "split.py").write_text(
                PLUGIN.replace("import torch\n", f"import torch\n{statement}\n").replace("= 0.5", "= helper.SHARE")
            )
            (folder / "helper.py").write_text(f"SHARE = {share}\n")
            assert vars(load_method("split", folder)())["share"] == share


def installed(target: Path, module: str, files: dict[str, str]) -> None:
    """A distribution as pip leaves it, its entry point `mine` at `module`."""
    about = target / "mine-0.1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 0.1\n")
    (about / "entry_points.txt").write_text(f"[ckl_bench.methods]\nmine = {module}\n")
    (about / "RECORD").write_text("".join(f"{name},,\n" for name in files))
    for name, text in files.items():
        (target / name).parent.mkdir(exist_ok=True, parents=True)
        (target / name).write_text(text)


def test_an_installed_methods_outermost_package_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"mylab/__init__.py": "", "mylab/methods/mine.py": PLUGIN, "mylab/tools.py": "VALUE = 1\n"}
    installed(tmp_path, "mylab.methods.mine", files)
    (tmp_path / "other.py").write_text("VALUE = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = plugin_hash("mine")
    (tmp_path / "other.py").write_text("VALUE = 2\n")
    assert plugin_hash("mine") == before
    seen = {before}
    for name in ("tools.py", "table.json", "methods/words.txt", "sizes.toml"):
        (tmp_path / "mylab" / name).write_text("2\n" if name.endswith("json") else "VALUE = 2\n")
        found = plugin_hash("mine")
        assert found not in seen, name
        seen.add(found)
    for name in ("__pycache__/tools.cpython-312.pyc", "methods/__pycache__/x.pyc", ".hidden"):
        (tmp_path / "mylab" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "mylab" / name).write_text("x")
        assert plugin_hash("mine") == found, name


def test_an_installed_module_is_joined_by_its_own_distribution_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"mine_module.py": PLUGIN + "import mine_helper, strangers\n", "mine_helper.py": "VALUE = 1\n"}
    installed(tmp_path, "mine_module", files)
    (tmp_path / "strangers.py").write_text("VALUE = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = plugin_hash("mine")
    (tmp_path / "strangers.py").write_text("VALUE = 2\n")
    assert plugin_hash("mine") == before
    (tmp_path / "mine_helper.py").write_text("VALUE = 2\n")
    assert plugin_hash("mine") != before
