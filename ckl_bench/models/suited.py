"""Whether a model can be run at all: a decoder that reads from left to right, found out before anything is trained."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ckl_bench.errors import UserError

OTHER = "give a causal language model (a decoder, such as Llama, Qwen or GPT-2)"


def require_decoder(name: str, config: Any) -> None:
    """UserError where a configuration is not that of a causal language model; no weight is needed to see it."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    kind = getattr(config, "model_type", "?")
    if getattr(config, "is_encoder_decoder", False):
        raise UserError(f"'{name}' is an encoder-decoder ({kind}), which reads its documents twice over; {OTHER}")
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING and "AutoModelForCausalLM" not in (
        getattr(config, "auto_map", None) or {}
    ):
        raise UserError(f"'{name}' is no causal language model ({kind}); {OTHER}")
    both_ways = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES or kind in ("bert-generation", "xlnet")
    # XLM reads one way where `causal` says so; its `is_decoder` means something else.
    if both_ways and not getattr(config, "causal" if kind == "xlm" else "is_decoder", False):
        raise UserError(f"'{name}' reads what stands behind a token too ({kind} without is_decoder); {OTHER}")
    # Short texts it reads whole: two of them, read twice, would not tell.
    if kind == "reformer" and "lsh" in config.attn_layers and config.hash_seed is None:
        raise UserError(
            f"'{name}' chooses by chance what a long text's tokens look at (reformer without hash_seed); {OTHER}"
        )


@torch.no_grad()
def require_causal(name: str, model: Any) -> None:
    """UserError where a token changes what is predicted before it, or chance changes it: two texts that differ in their
    last token, read twice, tell."""
    size = model.config.get_text_config().vocab_size
    ids = (torch.arange(1, 9) % size).repeat(2, 1)
    ids[1, -1] = (ids[1, -1] + 1) % size
    device = next(model.parameters()).device
    once, again = (model(input_ids=ids.to(device), use_cache=False).logits[:, :-1].float() for _ in range(2))
    rounding = (1e-5 if once.dtype == next(model.parameters()).dtype else 1e-3) * once[0].abs().max()
    if not (once - again).abs().max() <= rounding:
        raise UserError(f"'{name}' predicts something else of a text each time that it reads it; {OTHER}")
    if not (once[0] - once[1]).abs().max() <= rounding:
        raise UserError(f"'{name}' reads what stands behind a token too, so its scores would mean nothing; {OTHER}")


def outline(config: Any, trust_remote_code: bool) -> nn.Module:
    """The model without its weights: names and shapes of all parameters, in no memory."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model: nn.Module = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    return model


def stored_quantised(config: Any) -> str:
    """What is to be said of weights that are stored quantised: in what they are, and what is computed in."""
    stored = getattr(config, "quantization_config", None)
    if stored is None:
        return ""
    stored = stored if isinstance(stored, dict) else stored.to_dict()
    kind = stored.get("bnb_4bit_quant_type") if stored.get("load_in_4bit") else stored.get("quant_method", "quantised")
    computes = str(stored.get("bnb_4bit_compute_dtype") or "what its method chooses").removeprefix("torch.")
    return f"weights are stored in {kind} and computed with in {computes}"
