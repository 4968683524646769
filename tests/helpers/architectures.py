"""Tiny random models of five shapes, over the byte-level tokenizer's 257 tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

SHAPE: dict[str, Any] = {
    "vocab_size": 257,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
_OPT = {k: v for k, v in SHAPE.items() if k not in ("intermediate_size", "num_key_value_heads", "head_dim")} | {
    "ffn_dim": 64,
    "word_embed_proj_dim": 32,
    "dropout": 0.0,
}
_GPT2 = {"vocab_size": 257, "n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": None, "eos_token_id": 0} | {
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
}
BUILDERS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "llama": (LlamaForCausalLM, LlamaConfig, SHAPE),
    "gpt2": (GPT2LMHeadModel, GPT2Config, _GPT2),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, SHAPE),
    "gemma3": (Gemma3ForCausalLM, Gemma3TextConfig, SHAPE | {"final_logit_softcapping": 5.0, "sliding_window": 16}),
    "opt": (OPTForCausalLM, OPTConfig, _OPT),
}


def make(name: str, **options: Any) -> nn.Module:
    """A model of the named shape from seed 0, in evaluation mode."""
    model_class, config_class, settings = BUILDERS[name]
    torch.manual_seed(0)
    model: nn.Module = model_class._from_config(config_class(**settings, **options))
    return model.eval()
