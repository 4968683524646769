"""EWC (Kirkpatrick et al. 2017): weights that matter for known documents are held where the stage began."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from ckl_bench.encode import EncodedDocument, collate
from ckl_bench.errors import UserError
from ckl_bench.learning.train import token_nll, weighted_loss
from ckl_bench.method import Extent, Method, Needs, Penalty, StageContext


@dataclass(frozen=True, kw_only=True)
class Ewc(Method):
    """Adds strength/2 · Σ F (θ - θ*)² to the loss; θ* are the trained weights at the stage's start.

    F, their diagonal Fisher information, is the mean over up to `documents` rehearsal documents of the squared gradient
    of a document's mean token NLL (the empirical Fisher). Raises UserError where the benchmark has nothing to rehearse.
    """

    strength: float = 1e4
    documents: PositiveInt = 64

    def penalty(self, model: nn.Module, stage: StageContext) -> Penalty:
        known = stage.rehearsal()[: self.documents]
        if not known:
            raise UserError("ewc needs rehearsal documents and this benchmark has none; choose another benchmark")
        trained = [p for p in model.parameters() if p.requires_grad]
        fisher = diagonal_fisher(model, trained, known)
        start = [p.detach().clone() for p in trained]

        def pull() -> Tensor:
            terms = [(f * (p - s) ** 2).sum() for f, p, s in zip(fisher, trained, start, strict=True)]
            return self.strength / 2 * torch.stack(terms).sum()

        return pull

    def needs(self, extent: Extent) -> Needs:
        held = {"Fisher information": 4 * extent.trained, "weights to be pulled to": 4 * extent.trained}
        return Needs(memory=held, whole_logits=4)


def diagonal_fisher(
    model: nn.Module, parameters: Sequence[nn.Parameter], documents: Sequence[EncodedDocument]
) -> list[Tensor]:
    """Per parameter the mean over documents of its squared gradient; the model is in evaluation mode meanwhile."""
    sums = [torch.zeros_like(p) for p in parameters]
    training = model.training
    model.eval()
    for document in documents:
        batch = collate([document], parameters[0].device)
        nll = token_nll(model, batch.ids, batch.mask)
        loss = weighted_loss(nll, torch.ones_like(nll), batch.targets)
        for total, gradient in zip(sums, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True):
            if gradient is not None:
                total.add_(gradient**2)
    model.train(training)
    return [total / len(documents) for total in sums]
