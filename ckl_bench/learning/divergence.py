"""How far a model has moved from its base model, on text: KL divergence and perplexity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ckl_bench.encode import EncodedDocument, by_length, collate
from ckl_bench.models.head import forward, side_by_side
from ckl_bench.records import Perplexity

DOCUMENTS = 64  # the first so many of a stage, or of the rehearsal set, are looked at
TOKENS = 512  # of a batch, with padding


@dataclass(frozen=True, kw_only=True)
class Moved:
    """What a model makes of a text that its base model has read too; means over the predicted tokens."""

    kl: float  # KL(base || model), nats
    perplexity: Perplexity  # exp of the NLL


@torch.no_grad()
def moved(model: nn.Module, base: nn.Module, documents: Sequence[EncodedDocument]) -> Moved | None:
    """KL(base || model) and the perplexities of both on the first documents; None where there is no token to predict.

    KL(p || q) = sum over the vocabulary of p (ln p - ln q), at every token but a document's first.
    """
    device, sums, count = next(model.parameters()).device, torch.zeros(3, dtype=torch.float64), 0
    seen = documents[:DOCUMENTS]
    for group in by_length([len(document.ids) for document in seen], TOKENS):
        batch = collate([seen[i] for i in group], device)
        row, place = (batch.targets > 0).nonzero(as_tuple=True)
        targets = batch.ids[row, place + 1]
        ours_of, theirs_of = (forward(each, batch.ids, batch.mask) for each in (model, base))
        for part, ours, theirs in side_by_side(ours_of, theirs_of, row * batch.ids.shape[1] + place):
            for logits in (ours, theirs):
                logits.sub_(logits.logsumexp(-1, keepdim=True))
            nll = [-p.gather(-1, targets[part, None]).sum(dtype=torch.float64) for p in (ours, theirs)]
            kl = theirs.exp().mul_(theirs.sub_(ours)).sum(-1).sum(dtype=torch.float64)
            sums += torch.stack([kl, *nll]).cpu()
        count += len(targets)
    if not count:
        return None
    divergence, after, before = (sums / count).tolist()
    return Moved(kl=divergence, perplexity=Perplexity(before=_exp(before), after=_exp(after)))


def _exp(nll: float) -> float:
    return round(math.exp(min(nll, 700.0)), 4)
