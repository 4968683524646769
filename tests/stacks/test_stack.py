"""Stacks, settings and plugins."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ckl_bench.errors import UserError
from ckl_bench.method import Method, hooks_of
from ckl_bench.stacks.plugins import describe, load_method, origins
from ckl_bench.stacks.stack import make_stack
from conftest import Command
from helpers.plugin import PLUGIN


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "half.py").write_text(PLUGIN)
    (folder / "broken.py").write_text('"""Broken."""\ndef (:\n')
    (folder / "explodes.py").write_text('"""Explodes."""\nraise RuntimeError("boom")\n')
    (folder / "empty.py").write_text('"""Holds no method."""\n')
    (folder / "puller.py").write_text(
        '"""Pulls."""\nfrom dataclasses import dataclass\nfrom ckl_bench.method import Method\n'
        "@dataclass(frozen=True, kw_only=True)\nclass Puller(Method):\n"
        "    strength: float = 0.0\n"
        "    def penalty(self, model, stage):\n"
        "        weights = [p for p in model.parameters() if p.requires_grad]\n"
        "        return lambda: self.strength * sum((p * p).sum() for p in weights)\n"
    )
    (folder / "loose.py").write_text(
        '"""Not frozen."""\nfrom ckl_bench.method import Method\nclass Loose(Method):\n    pass\n'
    )
    package = folder / "packed"
    package.mkdir()
    (package / "__init__.py").write_text(PLUGIN.replace("Half weights", "Packed") + "\nfrom .other import VALUE\n")
    (package / "other.py").write_text("VALUE = 1\n")
    return folder


def test_a_stack_without_a_build_owner_gets_lora_and_says_so() -> None:
    assert make_stack("taalm").label == "taalm+lora"
    assert make_stack("lora").label == "lora"
    assert make_stack("finetune").label == "finetune"


def test_order_does_not_matter(plugins: Path) -> None:
    labels = {
        make_stack(e, methods_dir=plugins).label
        for e in ("half+finetune+puller", "puller+half+finetune", " finetune + puller + half ")
    }
    assert labels == {"half+finetune+puller"}


def test_hyperparameters_are_typed_and_only_differences_show(plugins: Path) -> None:
    settings = ["half.start=1", "half.share=1e-1", "half.on=false", "lora.r=16", "lora.alpha=32"]
    stack = make_stack("half", settings, plugins)
    assert stack.label == "half(start=1,share=0.1,on=False)+lora(alpha=32.0)"
    assert stack.hyperparameters == {
        "half": {"start": 1, "share": 0.1, "on": False},
        "lora": {"r": 16, "alpha": 32.0, "dropout": 0.0},
    }


def test_a_name_may_be_typed_with_hyphens_or_underscores(tmp_path: Path) -> None:
    (tmp_path / "my_half.py").write_text(PLUGIN)
    for name in ("my_half", "my-half"):
        assert make_stack(name, [f"{name}.start=1"], tmp_path).label == "my-half(start=1)+lora"
    assert "my-half" in origins(tmp_path)
    assert "my_half" not in origins(tmp_path)


def test_hooks_are_what_a_method_overrides() -> None:
    assert hooks_of(Method) == ()
    assert hooks_of(load_method("oracle")) == ("weigh",)
    stack = make_stack("oracle+finetune")
    assert stack.owner("build") is stack.parts["finetune"]
    assert hooks_of(type(stack.owner("penalty"))) == ()


@pytest.mark.parametrize(
    ("method", "settings", "words"),
    [
        ("talm", [], "unknown method 'talm'; did you mean 'taalm'?"),
        ("taalm+oracle", [], "oracle and taalm both own 'weigh'"),
        ("lora+finetune", [], "finetune and lora both own 'build'"),
        ("lora+lora", [], "stands twice"),
        ("lora+", [], "unknown method ''"),
        ("lora", ["lora.rr=3"], "unknown setting of lora 'rr'; did you mean 'r'?"),
        ("lora", ["lora.r=many"], "lora.r=many: expected"),
        ("lora", ["lora.r=0"], "lora.r=0: expected"),
        ("lora", ["r=3"], "expected method.field=value"),
        ("lora", ["lora.r"], "expected key=value"),
        ("lora", ["taalm.attention=x"], "unknown method in --set 'taalm'"),
        ("broken", [], "broken.py, line 2): SyntaxError"),
        ("explodes", [], "RuntimeError: boom"),
        ("empty", [], "defines 0 methods"),
        ("loose", [], "put @dataclass(frozen=True, kw_only=True) on Loose"),
    ],
)
def test_mistakes_are_one_line_and_load_no_weights(
    method: str, settings: list[str], words: str, plugins: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ckl_bench.models.find.tiny_model", lambda: pytest.fail("weights were loaded"))
    options = [x for setting in settings for x in ("--set", setting)]
    result = command("run", "--method", method, "--model", "tiny", "--methods-dir", plugins, *options)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert words in result.err


def test_a_plugin_runs_through_the_command(plugins: Path, small: Path, command: Command) -> None:
    run = ("run", "--model", "tiny", "--benchmark", small, "--methods-dir", plugins)
    for method in ("half", "packed+finetune", "puller"):
        result = command(*run, "--method", method)
        assert result.code == 0, result.err
        assert method.split("+")[0] in result.out


def test_penalties_of_a_plugin_reach_the_weights(plugins: Path, small: Path, command: Command) -> None:
    run = ("run", "--method", "puller+finetune", "--model", "tiny", "--benchmark", small, "--json")
    losses = []
    for strength in (0.0, 10.0):
        result = command(*run, "--methods-dir", plugins, "--set", f"puller.strength={strength}")
        import json

        losses.append(json.loads(result.out)["stages"][0]["epochs"][1]["train_loss"])
    assert losses[1] > losses[0] + 1


def test_methods_in_the_working_folder_are_found(plugins: Path, command: Command, tmp_path: Path) -> None:
    plugins.rename(tmp_path / "methods")
    result = command("methods")
    assert "half" in result.out
    assert "Half weights: every second token counts." in result.out


def test_listing_imports_no_method(plugins: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from ckl_bench.stacks.plugins import origins, describe\n"
        f"found = origins(Path({str(plugins)!r})); lines = [describe(o) for o in found.values()]\n"
        "assert 'taalm' in found and 'half' in found and 'explodes' in found\n"
        "bad = [m for m in sys.modules if m.startswith(('ckl_bench_methods.', 'ckl_bench_plugin_', 'peft'))]\n"
        "assert not bad, bad"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr


def test_descriptions_come_from_the_source(plugins: Path) -> None:
    found = origins(plugins)
    assert describe(found["half"]) == ("Half weights: every second token counts.", "weigh")
    assert describe(found["broken"])[0].startswith("cannot be read")
    assert describe(found["taalm"])[1] == "weigh"


def test_two_origins_of_a_name_are_refused(plugins: Path) -> None:
    (plugins / "lora.py").write_text(PLUGIN)
    with pytest.raises(UserError, match=r"two methods are named 'lora': .*lora.* and .*lora\.py"):
        origins(plugins)
    with pytest.raises(UserError, match="is not a folder"):
        origins(plugins / "nowhere")


def test_the_readmes_example_is_a_method(tmp_path: Path, small: Path, command: Command) -> None:
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    code = readme.split("```python\n", 1)[1].split("```", 1)[0]
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "rare.py").write_text(code, encoding="utf-8")
    run = ("run", "--method", "rare", "--model", "tiny", "--benchmark", small, "--json")
    result = command(*run, "--set", "rare.power=2")
    assert result.code == 0, result.err
    assert '"method": "rare(power=2.0)+lora"' in result.out
