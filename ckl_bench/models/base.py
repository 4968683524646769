"""What a base model is, found but not yet loaded: its name, what pins it, its tokenizer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from ckl_bench.encode import Tokenizer


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """A base model that can be loaded: its name, what pins its weights, its tokenizer, and how to load it.

    `load(**options)` returns a new model in evaluation mode on `device`; options go to transformers' `from_pretrained`.
    """

    name: str
    revision: str
    tokenizer: Tokenizer
    tokenizer_hash: str
    vocabulary: int  # tokens that the model chooses from: no token's id is larger
    load: Callable[..., nn.Module]
    outline: Callable[[], nn.Module]  # the model without its weights, on torch's meta device
    positions: int | None = None  # tokens that it can read, where it has such a bound
    embedded: int | None = None  # tokens that it has an embedding for
    note: str = ""  # what is to be said of it before a run
    where: str = ""  # folder or hub id that transformers reads it from; empty where it is made (tiny)
    commit: str = ""  # of a hub id, which is read at no other


def tokenizer_hash(tokenizer: Tokenizer) -> str:
    """SHA-256 of what a fast tokenizer does to text: equal hashes mean equal token ids."""
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()


def hush() -> None:
    """Bars and notes of the libraries below would stand between a run's own lines."""
    import logging

    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
