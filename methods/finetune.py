"""Full finetuning: every parameter of the base model trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from ckl_bench.method import Method


@dataclass(frozen=True, kw_only=True)
class Finetune(Method):
    """Full finetuning; tied embeddings stay tied.

    The rows that the paper calls finetuning train QLoRA adapters; that is `lora` here. This method's learning rate is a
    tenth of what adapters take, since every weight moves (Biderman et al. 2024, "LoRA Learns Less and Forgets Less",
    find the best rates of the two about one order of magnitude apart).
    """

    learning_rate: ClassVar[float | None] = 5e-5

    def build(self, load: Callable[..., nn.Module]) -> nn.Module:
        return load().requires_grad_(True)
