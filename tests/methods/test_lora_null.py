"""Null-space LoRA: what it closes, and that closed questions go through as before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ckl_bench.benchmarks.format import load_benchmark, write_benchmark
from ckl_bench.method import BuildContext
from ckl_bench.models.find import find_model
from ckl_bench_methods.lora import Lora
from ckl_bench_methods.lora_null import LoraNull, _questions, closing
from conftest import Command


def test_the_fewest_directions_that_hold_so_much_are_closed() -> None:
    turned = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(0)).double())[0]
    squares = turned @ torch.diag(torch.tensor([0.6, 0.3, 0.06, 0.04, 0.0]).double()) @ turned.T
    for energy, count in ((0.5, 1), (0.7, 2), (0.95, 3), (0.99, 4)):
        closed = closing(squares, energy)
        assert closed.shape == (5, count)
        torch.testing.assert_close(closed.T @ closed, torch.eye(count).double())
        torch.testing.assert_close(closed @ closed.T, turned[:, :count] @ turned[:, :count].T)


def context(benchmark: Path) -> BuildContext:
    found = load_benchmark(str(benchmark))
    return BuildContext(
        seed=0,
        tokenizer=find_model("tiny").tokenizer,
        texts=[document.text for document in found.stages[0].documents],
        solved=lambda: found.attention,
        inputs={},
    )


@torch.no_grad()
def moved(model: nn.Module, plain: nn.Module, ids: list[list[int]]) -> float:
    """By how much logits move where every B is drawn: the mean over texts of the largest change."""
    draw = torch.Generator().manual_seed(1)
    for name, p in model.named_parameters():
        if "lora_B" in name:
            p.copy_(torch.randn(p.shape, generator=draw) * 0.1)

    def logits(of: nn.Module, row: list[int]) -> Tensor:
        return of(input_ids=torch.tensor([row]), use_cache=False).logits  # type: ignore[no-any-return]

    return sum(float((logits(model, row) - logits(plain, row)).abs().max()) for row in ids) / len(ids)


def test_questions_go_through_as_before_whatever_is_learned(small: Path) -> None:
    base, about = find_model("tiny"), context(small)
    method = LoraNull(r=4, alpha=4.0, energy=0.999, questions=64)
    torch.manual_seed(0)
    closed = method.build(base.load, about)
    torch.manual_seed(0)
    free = Lora(r=4, alpha=4.0).build(base.load)
    trained = {name for name, p in closed.named_parameters() if p.requires_grad}
    assert trained
    assert all(".lora_B." in name for name in trained)
    for (name, a), (_, b) in zip(closed.named_parameters(), free.named_parameters(), strict=True):
        if ".lora_A." in name:  # as long as they were
            torch.testing.assert_close(a.norm(), b.norm())
    plain, asked = base.load(), _questions(about, 64)
    assert moved(closed, plain, asked) < 0.1 * moved(free, plain, asked)
    other = [list(range(40, 60)), list(range(100, 70, -1))]
    assert moved(closed, plain, other) > 0.2 * moved(free, plain, other)


def test_a_run_learns_with_b_alone_and_keeps_an_adapter_that_peft_loads(command: Command, small: Path) -> None:
    run = ("run", "--model", "tiny", "--benchmark", small, "--json", "--output", "out", "--save-model", "models")
    result = command(*run, "--method", "lora-null", "--set", "lora-null.questions=32")
    assert result.code == 0, result.err
    record = json.loads(result.out)
    epochs = record["stages"][0]["epochs"]
    assert epochs[-1]["sets"] != epochs[0]["sets"]
    scored = command("score", "--model", f"models/{record['run_id']}", "--benchmark", small, "--json")
    assert scored.code == 0, scored.err
    again = json.loads(scored.out)["stages"][0]["epochs"][-1]["sets"]
    for name, sets in epochs[-1]["sets"].items():
        assert again[name]["accuracy"] == sets["accuracy"]
        assert again[name]["nll"] == pytest.approx(sets["nll"], abs=1e-5)


def test_without_solved_pairs_it_says_so(command: Command, small: Path, tmp_path: Path) -> None:
    found = load_benchmark(str(small))
    bare = tmp_path / "bare"
    write_benchmark(
        bare, name="bare", kind=found.kind, about={"defaults": found.manifest["defaults"]}, stages=found.stages
    )
    result = command("run", "--model", "tiny", "--benchmark", bare, "--method", "lora-null", "--output", "out")
    assert result.code == 2
    assert "build it with --pairs lama-ckl-mini" in result.err
    assert "Traceback" not in result.err
