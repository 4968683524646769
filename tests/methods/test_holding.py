"""EWC and WiSE-FT: two ways of holding on to what the model knew, against their formulas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ckl_bench.benchmarks.format import Document
from ckl_bench.encode import collate
from ckl_bench.errors import UserError
from ckl_bench.learning.train import token_nll
from ckl_bench.records import read_record
from ckl_bench_methods.ewc import Ewc
from ckl_bench_methods.finetune import Finetune
from ckl_bench_methods.lora import Lora
from ckl_bench_methods.wiseft import WiseFt
from conftest import Command, forge
from helpers.architectures import make
from helpers.stages import TEXT, encode, stage

KNOWN = encode(*(Document(id=f"r{i}", text=TEXT[i : 40 + 2 * i]) for i in range(4)))


def push(model: nn.Module, size: float = 0.01) -> None:
    draw = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(size * torch.randn(p.shape, generator=draw))


@pytest.mark.parametrize("build", [Finetune(), Lora()])
def test_ewc_is_its_formula(build: Finetune | Lora) -> None:
    model = build.build(lambda: make("llama"))
    push(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    penalty = Ewc(strength=30.0, documents=3).penalty(model, stage(rehearsal=KNOWN))
    start = [p.detach().clone() for p in trained]
    fisher = [torch.zeros_like(p) for p in trained]
    for document in KNOWN[:3]:
        batch = collate([document])
        loss = token_nll(model, batch.ids, batch.mask).mean()
        for f, g in zip(fisher, torch.autograd.grad(loss, trained), strict=True):
            f += g**2 / 3
    assert penalty().item() == 0
    push(model, 0.05)
    pulled = torch.autograd.grad(penalty(), trained)
    assert penalty().item() == pytest.approx(
        15.0 * sum((f * (p - s) ** 2).sum().item() for f, p, s in zip(fisher, trained, start, strict=True)), rel=1e-4
    )
    for g, f, p, s in zip(pulled, fisher, trained, start, strict=True):
        torch.testing.assert_close(g, 30.0 * f * (p - s).detach(), atol=1e-8, rtol=1e-3)


def test_ewc_needs_something_to_rehearse() -> None:
    with pytest.raises(UserError, match="this benchmark has none"):
        Ewc().penalty(make("llama"), stage())


def test_a_strong_ewc_keeps_the_scores(command: Command, small: Path) -> None:
    # SGD's step would grow with the strength; AdamW's does not, so a strong pull holds the weights near their start.
    moved = []
    for strength in (0, 1e12):
        result = command(
            *("run", "--method", "ewc+finetune", "--model", "tiny", "--benchmark", small, "--json"),
            *("--set", f"ewc.strength={strength}", "--lr", "1e-3", "--epochs", 4),
        )
        assert result.code == 0, result.err
        epochs = json.loads(result.out)["stages"][0]["epochs"]
        nll = [e["sets"]["to_learn"]["nll"] for e in epochs]
        moved.append(abs(nll[-1] - nll[0]))
    assert moved[1] < 0.5 * moved[0]


@pytest.mark.parametrize("build", [Finetune(), Lora()])
def test_wiseft_interpolates_the_effective_weights(build: Finetune | Lora) -> None:
    def weights(model: nn.Module) -> dict[str, torch.Tensor]:
        import copy

        whole: Any = copy.deepcopy(model)
        whole = whole.merge_and_unload() if hasattr(whole, "merge_and_unload") else whole
        return {n: p.detach().clone() for n, p in whole.named_parameters()}

    model = build.build(lambda: make("llama"))
    scoring = WiseFt(alpha=0.25, points=2).scoring(model)
    assert scoring.main == "alpha=0.25"
    assert list(scoring.views) == ["alpha=0.25", "alpha=0.5", "alpha=1"]
    base = weights(model)
    push(model, 0.05)
    learned = weights(model)
    assert any(not torch.equal(base[n], learned[n]) for n in base)
    for name, alpha in (("alpha=0.25", 0.25), ("alpha=1", 1.0)):
        with scoring.views[name]():
            between = weights(model)
        for n in base:
            torch.testing.assert_close(between[n], torch.lerp(base[n], learned[n], alpha), atol=1e-6, rtol=1e-5)
    with pytest.raises(KeyError), scoring.views["alpha=0.5"]():
        raise KeyError  # whatever happens while scoring, the learned weights come back
    after = weights(model)
    assert all(torch.equal(after[n], learned[n]) for n in learned)


def test_wisefts_curve_is_recorded_and_its_end_is_the_plain_run(command: Command, small: Path, tmp_path: Path) -> None:
    run = ("run", "--model", "tiny", "--benchmark", small, "--lr", "1e-2", "--json")
    plain = json.loads(command(*run, "--method", "lora").out)
    mixed = json.loads(command(*run, "--method", "wiseft").out)
    assert mixed["spec"]["method"] == "lora+wiseft"
    last = mixed["stages"][0]["epochs"][-1]
    assert list(last["views"]) == ["alpha=0.25", "alpha=0.5", "alpha=0.75", "alpha=1"]
    assert last["sets"] == last["views"]["alpha=0.5"]
    assert last["views"]["alpha=1"] == plain["stages"][0]["epochs"][-1]["sets"]
    assert mixed["stages"][0]["epochs"][1]["views"] == {}
    nll = [sets["to_learn"]["nll"] for sets in last["views"].values()]
    assert len(set(nll)) == 4
    path = tmp_path / "runs" / "records" / f"{mixed['run_id']}.json"
    assert read_record(path).stages[0].epochs[-1].views["alpha=1"]["to_learn"].nll == nll[-1]
    forge(path, lambda r: r["stages"][0]["epochs"][-1]["views"]["alpha=1"]["to_learn"].update(nll=nll[-1] + 1))
    with pytest.raises(UserError, match="a mean is not its probes'"):
        read_record(path)
