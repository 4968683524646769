"""The writer: adapters on the base model that turn a document into a question about it, and the question's answer.

It is trained on solved pairs alone: the document is read, the pair's question is written behind it, then a mark, then
the object. No declared fact of a document to learn is read.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field, FiniteFloat
from torch import nn

from ckl_bench.benchmarks.format import AttentionDocument
from ckl_bench.encode import Tokenizer, object_span, tokenize
from ckl_bench.storage.prepared import Kind

from ..lora.low_rank import low_rank
from .rows import Row

FILES = Kind(
    schema="writer-1",
    name="writer",
    command="ckl-bench prepare restate",
    folder="writers",
    setting="restate.writer",
    file="writer.safetensors",
)
READ, MARK = "\n\n", " ->"  # behind the document; before the object


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How a writer is made from a base model."""

    r: Annotated[int, Field(gt=0, le=4096)] = 8  # rank of its LoRA on all linear layers
    alpha: FiniteFloat = 16.0


def adapted(base: nn.Module, shape: Shape, seed: int = 0) -> tuple[nn.Module, dict[str, nn.Parameter]]:
    """The base model, frozen, with the writer's adapters in it, and these by name (float32, they alone train)."""
    from peft import inject_adapter_in_model

    base.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = inject_adapter_in_model(low_rank(base, r=shape.r, alpha=shape.alpha), base)
    own = {name: p for name, p in model.named_parameters() if "lora_" in name}
    for parameter in own.values():
        parameter.data = parameter.data.float()
        parameter.requires_grad_(True)
    return model.eval(), own


def reading(tokenizer: Tokenizer, text: str, max_tokens: int) -> list[int]:
    """What the writer is shown of a document."""
    return [*tokenize(tokenizer, text, max_tokens)[0], *tokenize(tokenizer, READ)[0]]


def asked(tokenizer: Tokenizer, prefixes: Sequence[str]) -> list[list[int]]:
    """Questions as they are written, with the mark."""
    return list(tokenizer([f"{prefix}{MARK}" for prefix in prefixes], verbose=False)["input_ids"])


def ended(tokenizer: Tokenizer, objects: Sequence[str]) -> list[list[int]]:
    """Answers as they are written, with the end."""
    rows = tokenizer([f" {words}" for words in objects], verbose=False)["input_ids"]
    return [[*row, tokenizer.eos_token_id] for row in rows]


def solved_row(tokenizer: Tokenizer, row: AttentionDocument, max_tokens: int) -> Row:
    """A pair as the writer learns it."""
    start, end = object_span(row.prompt, row.fact.object)
    read = reading(tokenizer, row.text, max_tokens)
    (question,) = asked(tokenizer, [row.prompt[:start].rstrip()])
    (answer,) = ended(tokenizer, [row.prompt[start:end]])
    return [*read, *question, *answer], len(read)


def load_writer(path: Path, base: nn.Module) -> nn.Module:
    """The writer from its file, a model of its own over a copy of `base`, frozen; UserError where it does not fit."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    shape, tensors = FILES.load(path, Shape)
    model, own = adapted(copy.deepcopy(base), shape)
    FILES.fill(own, path, tensors)
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.merge()  # one product a layer: the writer reads many short texts
    return model.requires_grad_(False).eval()
