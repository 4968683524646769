"""How much of a batch goes through the model at once, so that it fits: no part of what the run computes."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ckl_bench.learning.train import MicroBatch

CPU_TOKENS = 512  # enough for the products of matrices to run at full speed; what is more costs memory alone
_KEPT = 34  # numbers that a layer keeps for its gradient, a token and unit of width (Korthikanti et al. 2022, table 2)


def micro_batch(model: nn.Module, device: str, documents: int | None) -> MicroBatch:
    """As many documents as the user says, else as many tokens as fit: on a CPU the same number everywhere.

    On a GPU it is what two thirds of the memory beside the weights hold, by what a layer keeps for its gradient.
    """
    if documents is not None:
        return MicroBatch(documents=documents)
    if not device.startswith("cuda"):
        return MicroBatch(tokens=CPU_TOKENS)
    config: Any = getattr(model, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    layers, width = getattr(text, "num_hidden_layers", 0), getattr(text, "hidden_size", 0)
    if not layers or not width:
        return MicroBatch(documents=1)
    # Of the card's whole memory, not of what happens to be free: a run that goes on splits as it did.
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    room = torch.cuda.get_device_properties(device).total_memory - weights
    return MicroBatch(tokens=max(1, int(room * 2 / 3 / (layers * width * _KEPT * 4))))
