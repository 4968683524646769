"""The conformance suite: every built-in passes it, every kind of broken plugin fails it on the line that says why."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ckl_bench.method import HOOKS
from ckl_bench.stacks.plugins import origins
from ckl_bench.testing import check_method
from conftest import Command

HEAD = '''"""A plugin: it is broken in one way."""
import os, random, time
from dataclasses import dataclass, replace
from pathlib import Path
import torch
from ckl_bench.encode import collate
from ckl_bench.method import Method, Scoring

@dataclass(frozen=True, kw_only=True)
class Broken(Method):
    """It is broken."""
'''
WEIGH = "    def weigh(self, model, tokenizer, stage):\n        "
BROKEN = {
    "importable": 'def (:\n    """no Python"""\n',
    "documented": HEAD.replace('    """It is broken."""\n', "") + WEIGH + "return lambda batch, nll: nll + 1\n",
    "hyperparameters typed, with defaults": HEAD + "    power: float\n" + WEIGH + "return lambda batch, nll: nll\n",
    "hooks have their signatures": HEAD + "    def weigh(self, model):\n        return lambda batch, nll: nll\n",
    "weights finite, not all zero": HEAD + WEIGH + "return lambda batch, nll: torch.zeros_like(nll)\n",
    "masks and padding respected": HEAD + WEIGH + "return lambda batch, nll: torch.softmax(nll, 0)\n",
    "trains": HEAD + "    def stream(self, batches, stage, epoch):\n        raise KeyError('lost')\n",
    "deterministic under a seed": HEAD
    + "    def stream(self, batches, stage, epoch):\n        for batch in batches:\n"
    + "            yield collate(random.sample(batch.documents, max(1, len(batch.documents) - 1)))\n",
    "goes on where it was stopped": HEAD
    + "    def optimizer(self, params, lr):\n        return Forgetful(params, lr=lr)\n\n"
    + "class Forgetful(torch.optim.SGD):\n    steps = 0\n    def step(self, closure=None):\n"
    + "        self.steps += 1\n        for group in self.param_groups:\n"
    + "            group['lr'] = 1e-2 / self.steps if group['lr'] else 0\n"
    + "        return super().step(closure)\n",
    "learning rate 0 changes nothing": HEAD
    + "    def optimizer(self, params, lr):\n        return torch.optim.SGD(params, lr=max(lr, 0.1))\n",
    "does not touch probes": HEAD
    + "    def penalty(self, model, stage):\n        import tempfile\n"
    + "        for file in Path(tempfile.gettempdir()).glob('tmp*/check/stages/*/probes-*'):\n"
    + "            file.read_text()\n"
    + "        return lambda: sum(p.sum() * 0 for p in model.parameters() if p.requires_grad)\n",
    "views give the weights back": HEAD
    + "    def scoring(self, model):\n        from contextlib import contextmanager\n        @contextmanager\n"
    + "        def half():\n            with torch.no_grad():\n"
    + "                for p in model.parameters(): p.mul_(0.5) if p.requires_grad else None\n            yield\n"
    + "        return Scoring(main='half', views={'half': half})\n",
    "works on two architectures": HEAD
    + "    def penalty(self, model, stage):\n        model.get_decoder().layers[0]\n        return None\n",
    "composes with others": HEAD
    + "    def penalty(self, model, stage):\n        weight = model.get_input_embeddings().weight\n"
    + "        assert weight.requires_grad, 'the embeddings are frozen'\n        return lambda: 0 * weight.sum()\n",
    "serialises into a record and back": HEAD
    + "    power: float = 1.0\n    def __post_init__(self):\n"
    + "        object.__setattr__(self, 'power', self.power * 2)\n"
    + WEIGH
    + "return lambda batch, nll: nll\n",
}
MORE = {
    "weights finite, not all zero": [
        HEAD + WEIGH + "return lambda batch, nll: nll / 0 - nll / 0\n",
        HEAD + WEIGH + "return lambda batch, nll: -nll\n",
        HEAD + "    weighs_tokens = False\n" + WEIGH + "return lambda batch, nll: nll\n",
    ],
    "masks and padding respected": [
        HEAD + WEIGH + "return lambda batch, nll: nll.new_ones(batch.ids.shape)\n",
        HEAD + WEIGH + "return lambda batch, nll: nll - nll.mean(1, keepdim=True) + 9\n",
    ],
    "hyperparameters typed, with defaults": [
        HEAD + "    power: dict = None\n" + WEIGH + "return lambda batch, nll: nll\n",
        HEAD + "    limit: float = float('inf')\n" + WEIGH + "return lambda batch, nll: nll\n",
    ],
    "does not touch probes": [
        HEAD
        + "    def stream(self, batches, stage, epoch):\n        for batch in batches:\n"
        + "            yield collate([replace(d, text='Aster has Bel.', id='x') for d in batch.documents])\n",
    ],
    "importable": [
        '"""No method in here."""\n',
        HEAD + "    def weight(self, model, tokenizer, stage):\n        return None\n",
    ],
    "hooks have their signatures": [
        HEAD + "    def token_weights(self, model):\n        return None\n",
        HEAD + "    def build(self, load, context):\n        return load()\n",
    ],
}
CASES = list(BROKEN.items()) + [(line, code) for line, codes in MORE.items() for code in codes]


@pytest.mark.parametrize("name", sorted(origins()))
def test_every_built_in_method_passes(name: str) -> None:
    checks = list(check_method(name))
    assert len(checks) == len(BROKEN)
    assert all(check.passed for check in checks), [c for c in checks if not c.passed]


@pytest.mark.parametrize(("line", "code"), CASES, ids=[f"{i}-{line}" for i, (line, _) in enumerate(CASES)])
def test_a_broken_plugin_fails_on_the_line_that_says_why(line: str, code: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(code)
    checks = {check.name: check for check in check_method(str(tmp_path / "broken.py"))}
    failed = [check.name for check in checks.values() if check.passed is False]
    assert failed
    assert failed[0] == line, checks
    assert checks[line].detail


def test_the_command_prints_a_list_to_act_on(command: Command, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(BROKEN["weights finite, not all zero"])
    result = command("check-method", tmp_path / "broken.py")
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "FAIL  weights finite, not all zero: all weights are zero: nothing would be learned" in result.out
    assert "ok    importable" in result.out
    assert "fails 1 check" in result.err
    unknown = command("check-method", "nothing-like-it")
    assert (unknown.code, unknown.out) == (2, "")
    assert command("check-method", tmp_path / "none.py").code == 2


def test_a_new_method_passes_as_it_is_written(command: Command, tmp_path: Path, small: Path) -> None:
    made = command("new-method", "rare_words")
    assert made.code == 0, made.err
    assert "ckl-bench check-method methods/rare_words.py" in made.out
    checked = command("check-method", tmp_path / "methods" / "rare_words.py")
    assert checked.code == 0, checked.out
    assert "rare-words" in command("methods").out
    run = ("run", "--method", "rare-words", "--model", "tiny", "--benchmark", small, "--json")
    ran = command(*run, "--set", "rare-words.power=2")
    assert ran.code == 0, ran.err
    assert '"method": "rare-words(power=2.0)+lora"' in ran.out
    pytest_run = [sys.executable, "-m", "pytest", "-q", "methods"]
    done = subprocess.run(pytest_run, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    unknown = command("new-method", "other_words", "--hook", "penalti")
    assert (unknown.code, unknown.err.count("\n")) == (2, 1)
    assert "unknown hook 'penalti'; did you mean 'penalty'?" in unknown.err
    assert not (tmp_path / "methods" / "other_words.py").exists()
    for name, words in (
        ("rare_words", "already"),
        ("lora", "already"),
        ("9lives", "small letters"),
        ("class", "small"),
    ):
        refused = command("new-method", name)
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert words in refused.err


@pytest.mark.parametrize("hook", HOOKS)
def test_a_start_for_every_hook_passes_and_runs_in_a_stack(
    hook: str, command: Command, tmp_path: Path, small: Path
) -> None:
    made = command("new-method", "my_idea", "--hook", hook)
    assert made.code == 0, made.err
    file = tmp_path / "methods" / "my_idea.py"
    checks = list(check_method(str(file)))
    assert len(checks) == len(BROKEN)
    assert all(check.passed for check in checks), [c for c in checks if not c.passed]
    assert f"owns {hook}" in checks[0].detail
    assert not re.search("[A-Z]{4,}", file.read_text()), "a placeholder is left"
    stack = "my-idea+random-tokens" if hook == "build" else "my-idea+lora"
    ran = command("run", "--method", stack, "--model", "tiny", "--benchmark", small, "--json")
    assert ran.code == 0, ran.err


def test_the_methods_readmes_example_passes_and_weighs_what_it_says(
    command: Command, tmp_path: Path, small: Path
) -> None:
    text = (Path(__file__).resolve().parents[2] / "methods" / "README.md").read_text(encoding="utf-8")
    (tmp_path / "listed.py").write_text(text.split("```python\n", 1)[1].split("```", 1)[0], encoding="utf-8")
    checks = list(check_method(str(tmp_path / "listed.py")))
    assert all(check.passed for check in checks), [c for c in checks if not c.passed]
    (tmp_path / "words.json").write_text('["story"]')
    run = ("run", "--method", "listed", "--methods-dir", tmp_path, "--model", "tiny", "--benchmark", small, "--json")
    ran = command(*run, "--set", f"listed.words={tmp_path / 'words.json'}")
    assert ran.code == 0, ran.err
    recorded = json.loads(ran.out)["stages"][0]["token_weights"]
    assert any("story" in "".join(shown["tokens"]) for shown in recorded)
    for shown in recorded:
        tokens, weights = shown["tokens"], shown["weights"]
        heavy = "".join(t for t, w in zip(tokens[1:], weights, strict=True) if w == 3.0)
        assert heavy.replace(" ", "") == "story" * "".join(tokens).count("story")
    missing = command(*run)
    assert (missing.code, missing.err.count("\n")) == (2, 1)
    assert "--set listed.words=FILE" in missing.err
