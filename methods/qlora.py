"""QLoRA (Dettmers et al. 2023): LoRA on a base model that is kept in 4-bit NormalFloat."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from ckl_bench.errors import UserError
from ckl_bench.method import RunTarget

from .lora import Lora


@dataclass(frozen=True, kw_only=True)
class QLora(Lora):
    """LoRA's adapters over a base model in NF4 with double quantisation, through bitsandbytes, on GPU or CPU.

    The adapters are float32; products are in the run's dtype. Raises UserError where bitsandbytes is not installed or
    cannot run.
    """

    holds: ClassVar[str] = "NF4"

    def inputs(self, target: RunTarget) -> Mapping[str, Path]:
        nf4()  # before any weight is loaded
        return super().inputs(target)

    def build(self, load: Callable[..., nn.Module]) -> nn.Module:
        return self.adapt(load_nf4(load))


def nf4() -> Any:
    """The transformers configuration of a base model in NF4; UserError where bitsandbytes is missing."""
    try:
        import bitsandbytes  # noqa: F401
        from transformers import BitsAndBytesConfig
    except (ImportError, OSError, RuntimeError) as error:
        raise UserError(
            f"qlora needs bitsandbytes, which cannot be loaded here ({str(error).splitlines()[0]}); "
            "pip install 'ckl-bench[qlora]', or use --method lora"
        ) from error
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )


def load_nf4(load: Callable[..., nn.Module]) -> nn.Module:
    """A base model whose linear layers are in NF4, frozen, everything else in float32."""
    config = nf4()
    from bitsandbytes.nn import Linear4bit

    try:
        model = load(quantization_config=config)
    except (ImportError, RuntimeError) as error:
        raise UserError(
            f"bitsandbytes cannot quantise the model here ({str(error).splitlines()[0]}); use --method lora"
        ) from error
    for name, module in model.named_modules():
        if isinstance(module, Linear4bit):
            if module.in_features % 64 and module.weight.device.type == "cpu":
                # bitsandbytes 0.50 restores such rows with the scales of other blocks.
                raise UserError(
                    f"on a CPU, qlora needs layer widths that are multiples of 64; {name} reads {module.in_features}: "
                    "use a GPU, or --method lora"
                )
            # On some processors it would repack the weights and compute in bfloat16 whenever no gradient is wanted:
            # scores would then be another model's than the one that trains.
            module.support_avx512bf16_for_cpu = False
            module.compute_dtype = model.get_input_embeddings().weight.dtype  # type: ignore[operator]
    return model.requires_grad_(False)
