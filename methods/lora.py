"""LoRA (Hu et al. 2021): low-rank adapters on all linear layers train, the base model is frozen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import PositiveInt
from torch import nn

from ckl_bench.method import Method


@dataclass(frozen=True, kw_only=True)
class Lora(Method):
    """Adapters on every linear layer but the head, through peft; what a stack without an owner of `build` gets.

    The defaults suit small models. The paper's runs on Llama2-7B use r=64, alpha=16, dropout=0.1
    (`--set lora.r=64 --set lora.dropout=0.1`).
    """

    r: PositiveInt = 16  # rank
    alpha: float = 16.0  # the adapters' output is scaled by alpha / r
    dropout: float = 0.0

    def build(self, load: Callable[..., nn.Module]) -> nn.Module:
        return self.adapt(load())

    def adapt(self, base: nn.Module) -> nn.Module:
        """The base model, frozen, with adapters that train."""
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            r=self.r, lora_alpha=self.alpha, lora_dropout=self.dropout, target_modules="all-linear", bias="none"
        )
        model: nn.Module = get_peft_model(base, config)
        return model
