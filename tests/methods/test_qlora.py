"""QLoRA: the base model is NF4 and stays as it is; the meta-gradient goes through it."""

from __future__ import annotations

import builtins
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from ckl_bench.models.find import find_model
from ckl_bench.models.tiny import tiny_tokenizer
from ckl_bench.models.trunk import share_trunk
from ckl_bench_methods.qlora import QLora, load_nf4
from ckl_bench_methods.taalm.meta_gradient import meta_gradients
from ckl_bench_methods.taalm.meta_train import make_learners
from ckl_bench_methods.taalm.texts import Task, documents, questions
from ckl_bench_methods.taalm.tried import supported_form
from conftest import Command
from helpers.second_order import through_the_update

IDS = torch.randint(3, 250, (2, 24), generator=torch.Generator().manual_seed(0))


def test_only_adapters_train_over_weights_that_are_four_bits() -> None:
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    plain: Any = find_model("tiny").load()
    model = QLora().build(find_model("tiny").load)
    quantised = {n: m for n, m in model.named_modules() if isinstance(m, Linear4bit)}
    assert len(quantised) == 2 * 7
    for name, layer in quantised.items():
        original = plain.get_submodule(name.removeprefix("base_model.model.").removesuffix(".base_layer")).weight
        restored = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        assert layer.weight.quant_state.quant_type == "nf4"
        assert 0 < (restored - original).abs().max() < 0.2 * original.abs().max()
    assert all(("lora_" in n) == p.requires_grad for n, p in model.named_parameters())


def test_scores_come_from_the_model_that_trains_and_the_base_is_shared() -> None:
    torch.manual_seed(0)
    model = QLora().build(find_model("tiny").load).train()
    trained = model(input_ids=IDS).logits.detach()
    with torch.no_grad():
        scored = model.eval()(input_ids=IDS).logits
        one = model(input_ids=IDS[:1, :1]).logits
    torch.testing.assert_close(scored, trained)
    torch.testing.assert_close(one, trained[:1, :1], atol=1e-5, rtol=1e-5)
    base = share_trunk(model)
    assert base is not None
    torch.testing.assert_close(base(input_ids=IDS).logits.detach(), trained)  # LoRA starts at zero
    assert {p.data_ptr() for p in base.parameters()} <= {p.data_ptr() for p in model.parameters()}


def test_the_meta_gradient_goes_through_quantised_layers() -> None:
    eager = partial(find_model("tiny").load, attn_implementation="eager")  # which has a second derivative
    learners = make_learners(load_nf4(eager), r=4, alpha=8.0, seed=0)
    draw, cpu = torch.Generator().manual_seed(1), torch.device("cpu")
    learners.start = learners.scattered(1, draw)[0]
    weights = torch.rand(23, generator=draw) + 0.05
    task = Task(ids=torch.randint(3, 250, (9,), generator=draw), objects=(5, 6))
    assert supported_form(learners, IDS[0].tolist(), cpu) == "forward"  # quantised layers are linear in a tangent too
    theta = learners.named(learners.start)
    expected, loss = through_the_update(learners.model, theta, IDS[0], weights, task, 1)
    read, asked = documents([IDS[0].tolist()], cpu), questions([task], cpu)
    for form, bound in (("forward", 1e-4), ("central", 1e-2)):
        (found,) = meta_gradients(learners, read, [weights], asked, form=form)  # type: ignore[arg-type]
        assert (found.gradient - expected).norm() <= bound * expected.norm()
        assert found.task_loss == pytest.approx(loss.item(), rel=1e-5)


def test_taalm_trains_and_runs_over_a_quantised_model(command: Command, small: Path, tmp_path: Path) -> None:
    settings = ("steps=2", "batch_size=2", "held_out=2", "validate_every=1", "nf4=true", "limit=6")
    sets = [x for setting in settings for x in ("--set", setting)]
    phi = tmp_path / "phi.safetensors"
    made = command("train-attention", "--benchmark", small, "--model", "tiny", "--out", phi, *sets)
    assert made.code == 0, made.err
    assert json.loads(phi.with_suffix(".json").read_text())["gradient"] == "forward"
    run = ("run", "--method", "taalm+qlora", "--model", "tiny", "--benchmark", small, "--json")
    result = command(*run, "--set", f"taalm.attention={phi}")
    assert result.code == 0, result.err
    assert json.loads(result.out)["spec"]["method"].endswith("+qlora")


def test_without_bitsandbytes_it_says_what_to_install_before_any_weight(
    command: Command, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] == "bitsandbytes":
            raise ImportError("No module named 'bitsandbytes'")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.setattr("ckl_bench.models.find.tiny_model", lambda: pytest.fail("weights were loaded"))
    result = command("run", "--method", "qlora", "--model", "tiny", "--benchmark", small)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "pip install 'ckl-bench[qlora]'" in result.err


def test_a_width_that_bitsandbytes_restores_wrongly_is_refused(command: Command, small: Path, tmp_path: Path) -> None:
    from helpers.architectures import make

    make("llama").save_pretrained(tmp_path / "narrow")  # type: ignore[operator]
    tiny_tokenizer().save_pretrained(tmp_path / "narrow")
    result = command("run", "--method", "qlora", "--model", tmp_path / "narrow", "--benchmark", small)
    assert (result.code, result.err.count("error:")) == (2, 1)
    assert "multiples of 64" in result.err
