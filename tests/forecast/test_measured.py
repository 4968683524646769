"""What `plan` says of memory, against the peak of real runs on the default model and two other shapes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ckl_bench.benchmarks.format import load_benchmark
from ckl_bench.models.find import find_model
from conftest import Command
from helpers.terminal import MAIN

ROOT = Path(__file__).parents[2]

# One is wide and short, one narrow with a large vocabulary.
SHAPES: dict[str, dict[str, Any]] = {
    "wide": {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 3, "num_attention_heads": 6},
    "words": {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 8, "num_attention_heads": 4},
}
VOCABULARY = {"wide": 49152, "words": 131072}


def shaped(model: str, folder: Path) -> str:
    """A folder with a model of such a shape, and the default model's tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    name = str(folder / model)
    config = LlamaConfig(vocab_size=VOCABULARY[model], tie_word_embeddings=model == "words", **SHAPES[model])
    made: Any = LlamaForCausalLM(config)
    made.save_pretrained(name)
    find_model("smollm2-135m").tokenizer.save_pretrained(name)
    return name


@pytest.mark.slow
@pytest.mark.parametrize(("model", "method"), [("smollm2-135m", "lora"), ("wide", "finetune"), ("words", "lora")])
def test_the_peak_is_within_30_percent(
    model: str, method: str, command: Command, users_cache: None, tmp_path: Path
) -> None:
    name = shaped(model, tmp_path) if model in SHAPES else model
    words = ["--method", method, "--model", name, "--limit", "6", "--batch-size", "6", "--epochs", "1", "--json"]
    run = [sys.executable, "-c", MAIN, "run", *words, "--dtype", "float32"]  # a process whose peak is its own
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True)
    measured = json.loads(done.stdout)["cost"]["peak_memory_bytes"]
    planned = json.loads(command("plan", *words, "--device", "cpu").out)
    assert planned["memory"]["peak"] == pytest.approx(measured, rel=0.3)


@pytest.mark.parametrize("stack", ["qlora", "lora+restate", "lora-null+restate"])
def test_the_peak_of_stacks_that_hold_more_is_within_30_percent_of_the_records(stack: str, command: Command) -> None:
    """Of quantised weights, and of what reads more than documents: of records on the present benchmark."""
    present = load_benchmark("lama-ckl-mini").hash
    records = [json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "leaderboards/records").glob("*.json")]
    measured = [
        found["cost"]["peak_memory_bytes"]
        for found in records
        if (found["spec"]["method"], found["spec"]["benchmark_hash"]) == (stack, present)
    ]
    planned = json.loads(command("plan", "--method", stack, "--device", "cpu", "--json").out)
    assert measured
    assert [planned["memory"]["peak"]] * len(measured) == pytest.approx(measured, rel=0.3)
