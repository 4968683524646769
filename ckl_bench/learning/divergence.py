"""How far a model has moved from its base model, on text: KL divergence, which forgetting follows, and perplexity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ckl_bench.encode import EncodedDocument, by_length, collate
from ckl_bench.records import Perplexity

DOCUMENTS = 64  # the first so many of a stage, or of the rehearsal set, are looked at
TOKENS = 512  # of a batch, with padding: full logits of both models are held at once


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
        given = {"input_ids": batch.ids, "attention_mask": batch.mask, "use_cache": False}
        ours, theirs = (F.log_softmax(m(**given).logits[:, :-1].float(), -1) for m in (model, base))
        kl = F.kl_div(ours, theirs, log_target=True, reduction="none").sum(-1)  # (B, T-1)
        nll = [-p.gather(-1, batch.ids[:, 1:, None]).squeeze(-1) for p in (ours, theirs)]
        sums += torch.stack([_total(values, batch.targets) for values in (kl, *nll)]).cpu()
        count += int(batch.targets.sum())
    if not count:
        return None
    divergence, after, before = (sums / count).tolist()
    return Moved(kl=divergence, perplexity=Perplexity(before=_exp(before), after=_exp(after)))


def _total(values: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask > 0, values, torch.zeros_like(values)).sum(dtype=torch.float64)


def _exp(nll: float) -> float:
    return round(math.exp(min(nll, 700.0)), 4)
