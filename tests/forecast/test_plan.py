"""What a run needs, said before it, against what is built, kept for a gradient and, at last, measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from ckl_bench.cli.plan import bytes_of
from ckl_bench.errors import UserError
from ckl_bench.forecast.forecast import Forecast, ForecastRequest, forecast
from ckl_bench.forecast.shape import shape_of
from ckl_bench.models.find import find_model
from ckl_bench.models.head import forward, weighted_nll
from ckl_bench.models.sketch import Sketch, sketch_model
from ckl_bench.stacks.plugins import origins
from ckl_bench.stacks.stack import make_stack
from conftest import Command
from helpers.architectures import make
from helpers.plugin import PLUGIN

METHODS = sorted(origins(None))


def a_forecast(**changes: Any) -> Forecast:
    given: dict[str, Any] = {"method": "lora", "model": "tiny", "limit": 8, "memory": 10**10} | changes
    return forecast(ForecastRequest(**given))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_counted_as_it_is_built(method: str) -> None:
    if method == "qlora":
        pytest.importorskip("bitsandbytes")
    found = a_forecast(method=method)
    model = make_stack(method).owner("build").build(find_model("tiny").load)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert (found.trained, found.notes) == (trained, [])
    if method != "qlora":  # whose packed weights say how many bytes they are
        assert found.parameters == sum(p.numel() for p in model.parameters())
    assert found.memory.peak == max(found.memory.phases.values()) > found.memory.parts["weights"]
    assert (found.tokens.all > 0) == (method not in ("none", "no-tokens"))


def kept(model: Any, tokens: int) -> float:
    """Numbers a token that autograd keeps of a forward pass, the model's own weights and the tokens left out."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    seen: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own and tensor.is_floating_point():
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.ones(1, tokens, dtype=torch.long)
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        hidden = forward(model.train(), ids, torch.ones_like(ids))
    weighted_nll(hidden, torch.arange(tokens - 1), ids[0, 1:], torch.ones(tokens - 1))
    return sum(seen.values()) / 4 / tokens


@pytest.mark.parametrize("method", ["lora", "finetune"])
@pytest.mark.parametrize("shape", ["llama", "gpt2", "qwen3", "opt"])
def test_what_is_kept_for_the_gradient_is_what_autograd_keeps(shape: str, method: str) -> None:
    base = make(shape)
    sketch = Sketch(name=shape, revision="", config=base.config, tokenizer=None)
    counted = shape_of(make_stack(method), sketch, "float32")
    built = make_stack(method).owner("build").build(lambda **options: base)
    forward(built, torch.ones(1, 4, dtype=torch.long), torch.ones(1, 4, dtype=torch.long))  # what it finds out once
    assert counted.kept == pytest.approx(kept(built, 64), rel=0.3)


def test_what_a_model_of_which_there_is_only_the_configuration_needs(tmp_path: Path, command: Command) -> None:
    model: Any = make("llama")
    model.config.save_pretrained(tmp_path)
    result = command("plan", "--method", "finetune", "--model", str(tmp_path), "--memory", "24GB", "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert found["parameters"] == found["trained"] == sum(p.numel() for p in make("llama").parameters())
    assert found["tokens"]["estimated"]
    assert found["memory"]["parts"]["optimizer states"] == 8 * found["trained"]
    assert "tokenizer is not on this machine" in found["notes"][0]


def test_less_is_needed_in_parts_with_checkpoints_packed_or_in_16_bits() -> None:
    model = "smollm2-135m"
    plain = a_forecast(model=model)
    assert a_forecast(model=model, micro_batch=1).memory.peak < plain.memory.peak
    assert a_forecast(model=model, checkpoint_activations=True).memory.peak < plain.memory.peak
    assert a_forecast(model=model, dtype="bfloat16").memory.parts["weights"] * 2 == plain.memory.parts["weights"]
    assert a_forecast(model=model, limit=2).operations < plain.operations
    small = a_forecast(model=model, on_gpu=True, memory=2 * 10**9, batch_size=64)
    large = a_forecast(model=model, on_gpu=True, memory=24 * 10**9, batch_size=64)
    assert 0 <= small.micro_batch < large.micro_batch <= 64
    assert small.micro_batch < small.with_checkpoints
    assert "libraries" not in large.memory.parts


def test_whether_a_train_attention_is_there_is_said() -> None:
    ships = a_forecast(method="taalm", model="smollm2-135m").preparing
    assert ships is not None
    assert not ships.needed
    assert "lama-ckl-mini" in ships.why or ".safetensors" in ships.why
    lacks = a_forecast(method="taalm").preparing
    assert lacks is not None
    assert lacks.needed
    assert lacks.tokens > 0
    assert lacks.memory > 0
    assert "train-attention" in lacks.why
    assert a_forecast().preparing is None


def test_what_cannot_be_known_of_a_plugin_is_said(tmp_path: Path) -> None:
    (tmp_path / "half.py").write_text(PLUGIN, encoding="utf-8")
    assert a_forecast(method="half", methods_dir=tmp_path).notes == [
        "what half holds or computes in weigh is not known and not counted"
    ]


def test_rehearsed_tokens_and_copies_are_counted() -> None:
    plain, more = a_forecast(), a_forecast(method="mixreview", settings=["mixreview.ratio=2"])
    assert more.tokens.epoch == 3 * plain.tokens.epoch
    assert (
        a_forecast(method="finetune+rho1").memory.parts["reference model"] == 4 * plain.parameters - 4 * plain.trained
    )
    assert "reference model" not in a_forecast(method="rho1").memory.parts


@pytest.mark.parametrize(
    ("text", "size"), [("24GB", 24 * 10**9), ("24 GiB", 24 * 2**30), ("1.5g", 1.5e9), ("500m", 5e8), ("123", 123)]
)
def test_sizes(text: str, size: float) -> None:
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1GB", "0", "3XB", "1ib"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="expected a size such as 24GB"):
        bytes_of(text)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--method", "lorra"], "unknown method 'lorra'; did you mean 'lora'?"),
        (["--method", "lora", "--model", "smol"], "unknown model 'smol'"),
        (["--method", "lora", "--memory", "lots"], "--memory lots: expected a size"),
        (["--method", "lora", "--device", "tpu"], "--device tpu: expected auto, cpu or cuda"),
        (["--method", "lora", "--dtype", "int8"], "--dtype int8: expected"),
        (["--method", "lora", "--micro-batch", "0"], "--micro-batch 0: expected a whole number"),
        (["--method", "lora", "--set", "lora.rank=2"], "unknown"),
    ],
)
def test_mistakes_are_one_line(words: list[str], said: str, command: Command) -> None:
    result = command("plan", *words)
    assert (result.code, result.out) == (2, "")
    assert result.err.count("\n") == 1
    assert said in result.err


def test_a_gguf_s_name_without_a_file_is_refused() -> None:
    with pytest.raises(UserError, match="there is no file"):
        sketch_model("nothing.gguf")


def test_it_is_told_in_a_screen(command: Command) -> None:
    result = command("plan", "--method", "lora", "--model", "tiny", "--limit", "4", "--memory", "8GB")
    assert result.code == 0, result.err
    for word in ("memory at most", "weights", "activations", "an epoch", "2 CPU cores", "H100", "--micro-batch"):
        assert word in result.out
