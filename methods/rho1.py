"""RHO-1 (Lin et al. 2024): train only on tokens that the model finds harder than the base model does."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ckl_bench.encode import Batch, Tokenizer
from ckl_bench.learning.readings import Readings
from ckl_bench.learning.train import token_nll
from ckl_bench.method import Extent, Method, Needs, StageContext, Weigh


@dataclass(frozen=True, kw_only=True)
class Rho1(Method):
    """Weight 1 on the top `keep` share of a document's tokens by excess loss (nll minus the reference's), 0 elsewhere.

    The reference is the untrained base model; its losses are computed once per document. The released code of TAALM
    takes `argsort` for ranks, which are positions, so its choice is unrelated to the excess; this one ranks.
    """

    keep: float = 0.6  # share of tokens that train

    def weigh(self, model: nn.Module, tokenizer: Tokenizer, stage: StageContext) -> Weigh:
        reference = stage.base().eval()
        device = next(reference.parameters()).device
        known = Readings(stage.documents, lambda ids, mask: token_nll(reference, ids, mask), device)

        @torch.no_grad()
        def weights(batch: Batch, nll: Tensor) -> Tensor:
            marks = torch.zeros_like(nll)
            for row, before in enumerate(known.of(batch)):
                excess = nll[row, : len(before)] - before.to(nll)
                top = excess.topk(max(1, round(self.keep * len(before)))).indices
                marks[row, top] = 1.0
            return marks

        return weights

    def needs(self, extent: Extent) -> Needs:
        return Needs(memory={"reference model": extent.base_bytes}, passes=1.0)
