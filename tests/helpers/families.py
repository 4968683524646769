"""Tiny random models of many of transformers' causal families, over the byte-level tokenizer's 257 tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from helpers.architectures import SHAPE

_EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
_GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512, "n_inner": 64}
_MAMBA = {"state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1, "expand": 2, "time_step_rank": 4}
_GEMMA = {
    "vision_config": {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
}
_LLAMA_LIKE = (
    "arcee",
    "cohere",
    "cohere2",
    "diffllama",
    "ernie4_5",
    "exaone4",
    "gemma",
    "gemma2",
    "gemma3_text",
    "glm",
    "glm4",
    "gpt_neox",
    "granite",
    "helium",
    "hunyuan_v1_dense",
    "llama",
    "ministral",
    "mistral",
    "nemotron",
    "olmo",
    "olmo2",
    "olmo3",
    "persimmon",
    "phi",
    "phi3",
    "qwen2",
    "qwen3",
    "seed_oss",
    "smollm3",
    "stablelm",
    "starcoder2",
    "vaultgemma",
)
# family: what its configuration needs beside the small shape
FAMILIES: dict[str, dict[str, Any]] = {
    **{family: {} for family in _LLAMA_LIKE},
    **dict.fromkeys(["granitemoe", "mixtral", "olmoe", "qwen2_moe", "qwen3_moe"], _EXPERTS),
    **dict.fromkeys(["codegen", "gpt2", "gpt_bigcode", "gptj"], _GPT | {"rotary_dim": 8}),
    "gpt_neo": {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]},
    "bloom": {"n_layer": 2, "n_head": 4},
    "mpt": {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 512, "expansion_ratio": 2},
    "falcon": {},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "biogpt": {},
    "xglm": {"d_model": 32, "num_layers": 2, "attention_heads": 4, "ffn_dim": 64},
    "mamba": _MAMBA,
    "mamba2": _MAMBA,
    "falcon_mamba": _MAMBA,
    "rwkv": {"attention_hidden_size": 32},
    "jamba": _EXPERTS | {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False, "mamba_d_state": 8,
                         "mamba_dt_rank": 4},
    "zamba2": {"num_hidden_layers": 4, "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"], "mamba_d_state": 8,
               "mamba_headdim": 8, "n_mamba_heads": 8, "use_mem_rope": False, "attention_hidden_size": 64,
               "attention_head_dim": 16, "adapter_rank": 4, "hybrid_layer_ids": [1, 3], "num_mem_blocks": 1},
    "deepseek_v3": {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
                    "v_head_dim": 8, "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2,
                    "n_group": 1, "topk_group": 1, "moe_intermediate_size": 32, "first_k_dense_replace": 1,
                    "num_key_value_heads": 4},
    "gpt_oss": _EXPERTS,
    "llama4_text": _EXPERTS | {"intermediate_size_mlp": 64},
    "qwen3_next": _EXPERTS | {"layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2,
                              "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
                              "shared_expert_intermediate_size": 32},
    "lfm2": {"layer_types": ["conv", "full_attention"], "conv_L_cache": 3},
    "falcon_h1": {"mamba_d_state": 8, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_ssm": 64},
    "minimax": _EXPERTS | {"layer_types": ["linear_attention", "full_attention"], "block_size": 64},
    "recurrent_gemma": {"lru_width": 32, "block_types": ["recurrent", "attention"], "attention_window_size": 512},
    "xlm": {"emb_dim": 32, "n_layers": 2, "n_heads": 4, "causal": True, "n_langs": 1, "use_lang_emb": False},
    "apertus": {},
    "bitnet": {},
    "gemma3": {"text_config": SHAPE | {"sliding_window": 16}, **_GEMMA},
}  # fmt: skip


def small_config(family: str) -> Any:
    """The configuration of a tiny model of a family."""
    own = FAMILIES.get(family, {})
    shape = {} if "text_config" in own else SHAPE | own
    if family == "falcon":  # which works it out, and lets nobody set it
        del shape["head_dim"]
    return AutoConfig.for_model(family, **shape | own)


def make_family(family: str) -> nn.Module:
    """A tiny model of a family from seed 0, in evaluation mode; without dropout."""
    config = small_config(family)
    for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop", "dropout", "hidden_dropout", "attention_dropout"):
        if hasattr(config, name):
            setattr(config, name, 0.0)
    torch.manual_seed(0)
    model: nn.Module = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return model.eval()
