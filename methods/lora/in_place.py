"""peft's linear layers with a pass over memory less in each direction: what the adapter gives is added in place."""

from __future__ import annotations

from typing import Any

from peft.tuners.lora.layer import Linear, LoraVariant
from torch import Tensor, nn


class InPlace(LoraVariant):  # type: ignore[misc]
    """Plain LoRA in all but the order of its sums.

    peft's own forward is `result + B A x * scaling`, of which sum and product are tensors of their own, as wide as the
    layer. Here the scaling goes to the narrow A x, and nowhere where it is 1: bit for bit the same then.
    """

    @staticmethod
    def forward(module: Any, active_adapter: str, x: Tensor, result: Tensor, **kwargs: Any) -> Tensor:
        narrow = module.lora_A[active_adapter](module.lora_dropout[active_adapter](x))
        scaling = module.scaling[active_adapter]
        if scaling != 1.0:
            narrow = narrow * scaling
        added: Tensor = result.add_(module.lora_B[active_adapter](narrow))
        return added

    @staticmethod
    def merge_safe(module: Any, active_adapter: str, orig_weight: Tensor) -> Tensor:
        changed: Tensor = orig_weight + module.get_delta_weight(active_adapter).to(orig_weight.dtype)
        return changed

    @staticmethod
    def merge_unsafe(module: Any, active_adapter: str, orig_weight: Tensor) -> None:
        orig_weight.data += module.get_delta_weight(active_adapter)

    @staticmethod
    def unmerge(module: Any, active_adapter: str, orig_weight: Tensor) -> Tensor:
        before: Tensor = orig_weight.data - module.get_delta_weight(active_adapter).to(orig_weight.dtype)
        return before


def add_in_place(model: nn.Module) -> None:
    """Let the adapters on plain linear layers do so; others (quantised, convolutions) stay as peft has them."""
    for module in model.modules():
        layer: Any = module
        if type(layer) is Linear and type(layer.get_base_layer()) is nn.Linear:
            for name in layer.lora_A:
                layer.lora_variant.setdefault(name, InPlace())
