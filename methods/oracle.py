"""Oracle: only the tokens of the fact's object train. An upper bound for weighting tokens by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ckl_bench.encode import Batch, Tokenizer, object_tokens
from ckl_bench.errors import UserError
from ckl_bench.method import Extent, Method, Needs, StageContext, Weigh


@dataclass(frozen=True, kw_only=True)
class Oracle(Method):
    """Weight 1 on the object's tokens in the evidence, 0 elsewhere (paper, section 5, "Oracle").

    It reads the document's facts, which no real learner has; a document without one teaches nothing. Raises UserError
    where no document of the stage carries a fact.
    """

    reads_nll: ClassVar[bool] = False

    def weigh(self, model: nn.Module, tokenizer: Tokenizer, stage: StageContext) -> Weigh:
        if not any(document.facts for document in stage.documents):
            raise UserError(f"oracle needs documents with facts; no document of stage '{stage.name}' has one")

        def weights(batch: Batch, nll: Tensor) -> Tensor:
            marks = torch.zeros_like(nll)
            for row, document in enumerate(batch.documents):
                own = object_tokens(document)[1:]
                marks[row, : len(own)] = own.to(marks)
            return marks

        return weights

    def needs(self, extent: Extent) -> Needs:
        return Needs()
