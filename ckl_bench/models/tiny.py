"""The model `tiny`: two layers over bytes, made from a seed, which needs no file."""

from __future__ import annotations

import torch
from torch import nn

from ckl_bench.encode import Tokenizer

TINY_SEED = 0
TINY_WIDTH = 64  # quantised layers come in blocks of 64


def tiny_tokenizer() -> Tokenizer:
    """A tokenizer whose tokens are the 256 bytes, plus `<eos>`: needs no file."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Backend(models.BPE(vocab={"<eos>": 0} | {c: i for i, c in enumerate(alphabet, 1)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", pad_token="<eos>")


def tiny_model() -> nn.Module:
    """A new `tiny`, its weights the same every time."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=257,
        hidden_size=TINY_WIDTH,
        intermediate_size=2 * TINY_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        bos_token_id=None,
        eos_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(TINY_SEED)
        return LlamaForCausalLM(config)  # type: ignore[no-any-return]
