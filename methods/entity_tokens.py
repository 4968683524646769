"""Control: only tokens of capitalised words and of numbers train, a guess at where facts stand."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ckl_bench.encode import Batch, Tokenizer, tokens_in
from ckl_bench.method import Extent, Method, Needs, StageContext, Weigh

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, kw_only=True)
class EntityTokens(Method):
    """Weight 1 on tokens of words that begin with a capital or hold a digit, 0 elsewhere; needs no training."""

    reads_nll: ClassVar[bool] = False

    def weigh(self, model: nn.Module, tokenizer: Tokenizer, stage: StageContext) -> Weigh:
        def weights(batch: Batch, nll: Tensor) -> Tensor:
            marks = torch.zeros_like(nll)
            for row, document in enumerate(batch.documents):
                for word in _WORD.finditer(document.text):
                    if word[0][0].isupper() or any(c.isdigit() for c in word[0]):
                        for position in tokens_in(document.offsets, word.span()):
                            if position > 0:
                                marks[row, position - 1] = 1.0
            return marks

        return weights

    def needs(self, extent: Extent) -> Needs:
        return Needs()
