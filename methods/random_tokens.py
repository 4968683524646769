"""Control: a random share of each document's tokens trains, the same tokens in every epoch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ckl_bench.encode import Batch, Tokenizer
from ckl_bench.method import Extent, Method, Needs, StageContext, Weigh


@dataclass(frozen=True, kw_only=True)
class RandomTokens(Method):
    """Weight 1 on `keep` of the tokens, drawn from the seed and the document's id: RHO-1 without its reason."""

    keep: float = 0.4  # share of tokens that train

    reads_nll: ClassVar[bool] = False

    def weigh(self, model: nn.Module, tokenizer: Tokenizer, stage: StageContext) -> Weigh:
        def weights(batch: Batch, nll: Tensor) -> Tensor:
            marks = torch.zeros_like(nll)
            for row, document in enumerate(batch.documents):
                digest = hashlib.sha256(f"{stage.seed}:{document.id}".encode()).digest()
                draw = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
                count = len(document.ids) - 1
                chosen = torch.randperm(count, generator=draw)[: max(1, round(self.keep * count))]
                marks[row, chosen.to(marks.device)] = 1.0
            return marks

        return weights

    def needs(self, extent: Extent) -> Needs:
        return Needs()
