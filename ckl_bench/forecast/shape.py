"""What a method builds of a model, counted on torch's meta device: parameters, bytes, numbers kept for a gradient."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ckl_bench.errors import UserError, first_line
from ckl_bench.models.sketch import Sketch
from ckl_bench.stacks.stack import Stack

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)  # a weight, the scale of 64 in 8 bits, and the scale of 256 of these


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Counts of a model as a method builds it: numbers, but where the name says bytes."""

    base: int  # parameters of the base model
    base_bytes: int  # of its weights as they are held
    file_bytes: int  # of the file that they are read from, in the run's dtype unless it is quantised itself
    added: int  # parameters that the method adds
    trained: int
    largest_trained: int  # in one tensor
    base_trains: bool  # whether weights of the base model train
    shared: bool  # whether a second, untrained base model stands in the same memory
    head: int  # of the head's matrix
    vocabulary: int
    width: int
    layers: int
    heads: int
    applied: float  # weights in matrices that a token meets in the base model's layers; of experts those it asks
    applied_added: int  # the same of what the method adds
    kept: float  # kept for the gradient, a token, in the base model's layers with their adapters
    kept_beside: float  # kept for the gradient, a token, in what stands beside the base model
    inputs_and_outputs: int  # summed over the linear layers
    note: str = ""


def shape_of(stack: Stack, sketch: Sketch, dtype: str) -> Shape:
    """Count what the owner of `build` makes of a model, which it is given on the meta device.

    What is kept for the gradient, a token, in numbers: what each linear layer puts out (queries, keys, values, gate and
    up are read again by what follows; the others by the norms behind the sums that they join), and in each layer the
    outputs of two norms, attention's, keys and values once for every head, and of the inner width what the activation
    makes and its product with the gate (`_of_activation` where there is no gate). Where the base model trains, its
    norms keep what they have normalised; an adapter keeps what stands between its factors. Fused attention keeps no
    scores.
    """
    asked: dict[str, Any] = {}
    plain = sketch.outline()

    def load(**options: Any) -> nn.Module:
        asked.update(options)
        return plain.eval()

    original, note = list(plain.named_parameters()), ""
    own = {id(p) for _, p in original}
    linear = [module for module, _ in _linear(plain)]
    kept, applied = _kept(plain, sketch.text), _applied(plain, sketch.text)
    try:
        with torch.device("meta"):
            model = stack.build(load)
    except UserError:
        raise
    except Exception as error:  # a plugin's code may do anything with weights that are not there
        owner = next(name for name, method in stack.parts.items() if method is stack.owner("build"))
        note = f"what {owner} builds cannot be told without weights ({first_line(error)}): counted as if all trained"
        model = plain.requires_grad_(True)
    named = {n: p for n, p in model.named_parameters() if id(p) not in own}
    trained = [p for p in model.parameters() if p.requires_grad]
    base_trains = any(id(p) in own for p in trained)
    between = sum(p.shape[0] for n, p in named.items() if ".lora_A." in n)
    beside = [
        module.out_features
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and id(module.weight) not in own and "lora_" not in name
    ]
    text, head, width = sketch.text, _head(plain), _width(sketch.text)
    layers = _number(text, "num_hidden_layers", "n_layer", "num_layers")
    base = sum(p.numel() for _, p in original)
    packed = _packed(asked, sketch.config)
    inner = sum(module.weight.numel() for module in linear)
    size = BYTES[dtype]
    weights = base * size if packed is None else int(inner * packed) + (base - inner) * size
    return Shape(
        base=base,
        base_bytes=weights,
        file_bytes=base * size if "quantization_config" in asked else weights,
        added=sum(p.numel() for p in named.values()),
        trained=sum(p.numel() for p in trained),
        largest_trained=max((p.numel() for p in trained), default=0),
        base_trains=base_trains,
        shared=not base_trains and (hasattr(model, "frozen_base") or hasattr(model, "unload") or not trained),
        head=head.weight.numel() if head is not None else 0,
        vocabulary=_number(text, "vocab_size"),
        width=width,
        layers=layers,
        heads=_number(text, "num_attention_heads", "n_head"),
        applied=applied,
        applied_added=sum(p.numel() for p in named.values() if p.dim() > 1),
        kept=kept + between + (2 * layers * width if base_trains else 0),
        kept_beside=2.0 * sum(beside) + (8.0 * width if beside else 0.0),
        inputs_and_outputs=sum(sum(module.weight.shape) for module in linear),
        note=note,
    )


def _number(config: Any, *names: str) -> int:
    """The first of a configuration's numbers that it has, by the names that families give it; 0 where it has none."""
    found = (getattr(config, name, None) for name in names)
    return next((int(value) for value in found if isinstance(value, int) and value), 0)


def _width(text: Any) -> int:
    return _number(text, "hidden_size", "n_embd", "d_model")


def _head(model: Any) -> Any:
    head = getattr(model, "get_output_embeddings", lambda: None)()
    return head if hasattr(head, "weight") else None


def _share(name: str, text: Any) -> float:
    """The share of tokens that meet a weight of this name: of experts each token asks a few."""
    experts = _number(text, "num_local_experts", "num_experts", "n_routed_experts")
    asked = _number(text, "num_experts_per_tok", "num_experts_per_token", "moe_k")
    return asked / experts if "expert" in name and "shared" not in name and experts and asked else 1.0


def _linear(model: Any) -> Iterator[tuple[Any, str]]:
    """The linear layers but the head, with their names."""
    from transformers.pytorch_utils import Conv1D

    head = _head(model)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | Conv1D) and module is not head:
            yield module, name


def _fused(model: Any) -> Iterator[tuple[nn.Parameter, str]]:
    """Weights that hold a matrix for each expert."""
    return ((p, name) for name, p in model.named_parameters() if p.dim() == 3 and "expert" in name)


def _applied(model: Any, text: Any) -> float:
    plain = sum(module.weight.numel() * _share(name, text) for module, name in _linear(model))
    return float(plain + sum(p.numel() * _share(name, text) for p, name in _fused(model)))


def _kept(model: Any, text: Any) -> float:
    from transformers.pytorch_utils import Conv1D

    width, layers = _width(text), _number(text, "num_hidden_layers", "n_layer", "num_layers")
    outputs = 0.0
    for module, name in _linear(model):
        out = module.weight.shape[1] if isinstance(module, Conv1D) else module.weight.shape[0]
        outputs += out * _share(name, text)
    for p, name in _fused(model):  # (experts, rows, columns), whichever of the two the width is
        out = p.shape[1] if p.shape[2] == width else p.shape[2]
        outputs += p.shape[0] * out * _share(name, text)
    heads = _number(text, "num_attention_heads", "n_head")
    of_head = _number(text, "head_dim") or width // max(heads, 1)
    groups = _number(text, "num_key_value_heads") or heads
    inner = _number(text, "intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size") or 4 * width
    expanded = 2 * (heads - groups) * of_head
    ups = [name for module, name in _linear(model) if inner in module.weight.shape and _grows(module, width)]
    gated = len(ups) >= 2 * layers or any(2 * inner in module.weight.shape for module, _ in _linear(model))
    of_activation = 2 if gated or next(_fused(model), None) is not None else _of_activation(text)
    return outputs + layers * (2 * width + heads * of_head + expanded + of_activation * inner)


def _grows(module: Any, width: int) -> bool:
    """Whether a layer reads the hidden state and puts out something else."""
    from transformers.pytorch_utils import Conv1D

    return bool((module.weight.shape[0] if isinstance(module, Conv1D) else module.weight.shape[1]) == width)


def _of_activation(text: Any) -> int:
    """Numbers that an activation keeps beside its input, for each that it makes: one, its output, but for some."""
    names = ("activation_function", "hidden_act", "hidden_activation", "activation")
    name = next((getattr(text, n) for n in names if getattr(text, n, None)), "")
    return {"gelu_new": 4, "gelu_fast": 4, "relu": 0}.get(str(name), 1)  # the first two are sums in Python


def _packed(asked: dict[str, Any], config: Any) -> float | None:
    """Bytes a weight of the linear layers, where the method or the model's files have them quantised."""
    given = asked.get("quantization_config") or getattr(config, "quantization_config", None)
    if given is None:
        return None
    given = given if isinstance(given, dict) else given.to_dict()
    bits = 4 if given.get("load_in_4bit") else 8 if given.get("load_in_8bit") else given.get("bits")
    return NF4 if bits == 4 else bits / 8 if isinstance(bits, int) else None
