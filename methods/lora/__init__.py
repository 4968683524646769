"""LoRA (Hu et al. 2021): low-rank adapters on all linear layers train, the base model is frozen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import PositiveInt
from torch import nn

from ckl_bench.errors import UserError
from ckl_bench.method import Method, RunTarget

from .low_rank import fused_experts, low_rank


@dataclass(frozen=True, kw_only=True)
class Lora(Method):
    """Adapters on every linear layer of the language model but the head, through peft, and on experts' fused weights;
    what a stack without an owner of `build` gets. See `low_rank.py` for what is left out.

    The defaults suit small models. The paper's runs on Llama2-7B use r=64, alpha=16, dropout=0.1
    (`--set lora.r=64 --set lora.dropout=0.1`).
    """

    r: PositiveInt = 16  # rank
    alpha: float = 16.0  # the adapters' output is scaled by alpha / r
    dropout: float = 0.0

    def inputs(self, target: RunTarget) -> Mapping[str, Path]:
        if self.dropout and target.outline is not None and fused_experts(target.outline()):
            raise UserError(
                f"'{target.model}' keeps its experts' weights together, where peft has adapters but no dropout; "
                "give lora.dropout=0 (qlora.dropout=0)"
            )
        return {}

    def build(self, load: Callable[..., nn.Module]) -> nn.Module:
        return self.adapt(load())

    def adapt(self, base: nn.Module) -> nn.Module:
        """The base model, frozen, with adapters that train."""
        from peft import get_peft_model

        from .in_place import add_in_place  # loads peft

        config = low_rank(base, r=self.r, alpha=self.alpha, dropout=self.dropout, experts=True)
        model: nn.Module = get_peft_model(base, config)
        add_in_place(model)
        return model
