"""How far a model has moved from its base model: KL divergence on text, which forgetting follows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ckl_bench.encode import EncodedDocument, collate

DOCUMENTS = 64  # the first so many of a stage, or of the rehearsal set, are looked at
_TOKENS = 512  # of a batch, with padding: full logits of both models are held at once


@torch.no_grad()
def divergence(model: nn.Module, base: nn.Module, documents: Sequence[EncodedDocument]) -> float | None:
    """Mean KL(base || model) in nats over the predicted tokens of the first documents; None where there is no token.

    KL(p || q) = sum over the vocabulary of p (ln p - ln q), at every token but a document's first.
    """
    device, total, count = next(model.parameters()).device, 0.0, 0
    for group in _batches(documents[:DOCUMENTS]):
        batch = collate(group, device)
        given = {"input_ids": batch.ids, "attention_mask": batch.mask, "use_cache": False}
        ours, theirs = (F.log_softmax(m(**given).logits[:, :-1].float(), -1) for m in (model, base))
        kl = F.kl_div(ours, theirs, log_target=True, reduction="none").sum(-1)  # (B, T-1)
        total += float((kl * batch.targets).sum())
        count += int(batch.targets.sum())
    return total / count if count else None


def _batches(documents: Sequence[EncodedDocument]) -> Iterator[list[EncodedDocument]]:
    """Documents of similar length together."""
    group: list[EncodedDocument] = []
    for document in sorted(documents, key=lambda d: len(d.ids)):
        if group and (len(group) + 1) * len(document.ids) > _TOKENS:
            yield group
            group = []
        group.append(document)
    if group:
        yield group
