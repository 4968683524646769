"""What is done so that a run fits: how much goes through the model at once, what is kept, in what arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ckl_bench.errors import UserError, first_line
from ckl_bench.learning.shard import held
from ckl_bench.learning.train import MicroBatch

CPU_TOKENS = 384  # enough for the products of matrices to run at full speed; what is more costs memory alone
UNREAD = 2  # times as many tokens of documents, where they stay out of the model
SCORED = 1024  # tokens of a batch of prompts, unless it is a GPU that scores them
MOST_SCORED = 1 << 16  # of those on a GPU
# Bytes that a layer keeps for its gradient, a token and unit of width: 34 numbers (Korthikanti et al. 2022, table 2).
GPU_TOKEN = 34 * 4
GPU_SHARE = 2 / 3  # of the memory beside the weights


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What a user may say of memory and kernels; no part of what the run computes, beyond rounding."""

    micro_batch: int | None = None  # documents that go through the model at once; None: as many as fit
    score_batch_tokens: int | None = None  # of prompts that go through the model at once; None: as many as fit
    checkpoint_activations: bool = False
    attention: str = ""  # transformers' name of a kernel; empty: its own choice
    shard: bool = False  # the frozen base model lies in parts, one a process


@contextmanager
def precision(device: str, dtype: str) -> Iterator[None]:
    """The arithmetic of a run: float32 as it stands; else products in `dtype`, sums and losses in float32."""
    if dtype == "float32":
        yield
        return
    kind = torch.device(device).type
    # On a CPU the backward pass of fused attention takes twice as long in half precision as the plain kind's.
    attention = sdpa_kernel(SDPBackend.MATH) if kind == "cpu" else nullcontext()
    # Casts of weights that train may not outlive a step, so none is kept.
    with attention, torch.autocast(kind, getattr(torch, dtype), cache_enabled=False):
        yield


def multiplies_bfloat16(device: str) -> bool:
    """Whether the device has instructions for it; a processor without takes several times as long as in float32."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(False))
    if device != "cpu":
        return False
    has: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # an older torch cannot say
    return any(has.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")) or not has


def loss_scale(dtype: str) -> float:
    """By how much gradients are magnified on their way, since float16 ends at 6e-8."""
    return 1024.0 if dtype == "float16" else 1.0


def checkpoint_activations(model: nn.Module, name: str) -> None:
    """Let a model's layers be computed again for the gradient; UserError where its code cannot."""
    older: Any = getattr(model, "gradient_checkpointing_enable", None)  # in older transformers
    enable: Any = getattr(model, "activation_checkpointing_enable", older)
    try:
        if enable is None:
            raise ValueError("its layers are not transformers' own.")
        enable({"use_reentrant": False})
    except ValueError as error:
        raise UserError(
            f"--checkpoint-activations: {name} cannot, as this method builds it: {first_line(error)} "
            "--micro-batch 1 needs less memory too"
        ) from error


def micro_batch(model: nn.Module, device: str, documents: int | None, *, weighs_tokens: bool = True) -> MicroBatch:
    """As many documents as the user says, else as many tokens as fit: on a CPU the same number everywhere.

    On a GPU it is what two thirds of the memory beside the weights hold, by what a layer keeps for its gradient.
    Documents of which no token is weighed leave their room to what is learned beside them: twice as many go at once.
    """
    if documents is not None:
        return MicroBatch(documents=documents)
    times = 1 if weighs_tokens else UNREAD
    if not device.startswith("cuda"):
        return MicroBatch(tokens=CPU_TOKENS * times)
    layers, width = _layers_and_width(model)
    if not layers or not width:
        return MicroBatch(documents=1)
    return MicroBatch(tokens=max(1, int(_room(model, device) / (layers * width * GPU_TOKEN))) * times)


def score_tokens(model: nn.Module, device: str, tokens: int | None) -> int:
    """As many tokens of prompts as the user says, else as many as fit.

    On a CPU that is a number at which products of matrices run at full speed; more costs memory alone. On a GPU it is
    what two thirds of the memory beside the weights hold, by what one layer makes: nothing is kept for a gradient, and
    logits come in chunks. At most 65,536, by then a GPU has enough to do.
    """
    if tokens is not None:
        return tokens
    width = _layers_and_width(model)[1] if device.startswith("cuda") else 0
    if not width:
        return SCORED
    return max(SCORED, min(MOST_SCORED, int(_room(model, device) / (width * GPU_TOKEN))))


def _layers_and_width(model: nn.Module) -> tuple[int, int]:
    config: Any = getattr(model, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return getattr(text, "num_hidden_layers", 0), getattr(text, "hidden_size", 0)


def _room(model: nn.Module, device: str) -> float:
    """Bytes of the card beside the weights that may be filled."""
    # Of the card's whole memory, not of what happens to be free: a run that goes on splits as it did.
    weights = sum(held(p) * p.element_size() for p in model.parameters())
    return float(torch.cuda.get_device_properties(device).total_memory - weights) * GPU_SHARE
