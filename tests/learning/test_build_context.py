"""What a builder may know of its run: a second argument, where it has one."""

from __future__ import annotations

import json
from pathlib import Path

from ckl_bench.benchmarks.format import load_benchmark
from conftest import Command

PLUGIN = '''
import json
from dataclasses import dataclass
from ckl_bench.method import Method


@dataclass(frozen=True, kw_only=True)
class Curious(Method):
    """Full finetuning that notes what it is told."""

    def build(self, load, context=None):
        if context is not None:
            known = {"seed": context.seed, "texts": list(context.texts), "inputs": dict(context.inputs)}
            known["solved"] = [[pair.text, pair.prompt] for pair in context.solved()]
            known["tokens"] = context.tokenizer("a b")["input_ids"]
            with open("known.json", "w") as file:
                json.dump(known, file)
        return load().requires_grad_(True)
'''


def test_a_builder_is_told_of_its_run_and_is_no_oracle_for_it(command: Command, small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "curious.py").write_text(PLUGIN)
    run = ("run", "--method", "curious", "--methods-dir", folder, "--model", "tiny", "--benchmark", small, "--json")
    result = command(*run, "--seed", "3", "--limit", "2", "--epochs", "1", "--lr", "1e-3", "--output", "out")
    assert result.code == 0, result.err
    record, known = json.loads(result.out), json.loads(Path("known.json").read_text())
    benchmark = load_benchmark(str(small))
    assert known["seed"] == 3
    assert known["texts"] == [document.text for document in benchmark.stages[0].documents[:2]]
    assert known["solved"] == [[row.text, row.prompt] for row in benchmark.attention]
    assert known["inputs"] == {}
    assert known["tokens"]
    assert not record["told"]


def test_plan_counts_such_a_model_without_a_run(command: Command, small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "curious.py").write_text(PLUGIN)
    found = command("plan", "--method", "curious", "--methods-dir", folder, "--model", "tiny", "--benchmark", small)
    assert found.code == 0, found.err
    assert not Path("known.json").exists()
