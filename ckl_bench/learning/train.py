"""Learn: one epoch as a flat loop over batches, the only loss there is, and the weights it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from ckl_bench.encode import Batch, EncodedDocument, collate
from ckl_bench.errors import CklError
from ckl_bench.method import Penalty, Weigh
from ckl_bench.progress import Advance
from ckl_bench.records import TokenWeights


@dataclass(kw_only=True)
class Progress:
    """How far an epoch has come: steps done, the sum of their losses, tokens read (padding not counted)."""

    steps: int = 0
    losses: float = 0.0
    tokens: int = 0

    @property
    def loss(self) -> float:
        """Mean loss over the steps."""
        return self.losses / max(self.steps, 1)


def token_nll(model: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    """(B, T-1) nats: NLL of every token but the first, given those before it; meaningless where the mask is 0."""
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
    flat = F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return flat.view(ids.shape[0], -1)


def weighted_loss(nll: Tensor, weights: Tensor, mask: Tensor) -> Tensor:
    """Scalar: per sequence sum_i w_i nll_i / sum_i w_i, then the mean over sequences (paper, equation 2).

    nll, weights, mask: (B, T-1); the mask is 1 on predicted tokens and silences padding whatever its weight.
    A sequence whose weights are all zero teaches nothing: it adds 0 to the mean.
    """
    weights = weights * mask
    nll = torch.where(mask > 0, nll, torch.zeros_like(nll))
    return ((weights * nll).sum(1) / weights.sum(1).clamp_min(torch.finfo(weights.dtype).tiny)).mean()


def train_epoch(
    model: nn.Module,
    batches: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    weigh: Weigh,
    penalties: Sequence[Penalty] = (),
    advance: Advance | None = None,
    progress: Progress | None = None,
    after_step: Callable[[], None] = lambda: None,
) -> Progress:
    """Train on every batch once; `progress` is what was done before, where an epoch goes on, and grows step by step.

    Raises CklError where the loss or a gradient is not finite, before the optimizer would spread it: names step and
    documents.
    """
    model.train()
    done = progress or Progress()
    for batch in batches:
        nll = token_nll(model, batch.ids, batch.mask)  # (B, T-1)
        weights = weigh(batch, nll.detach())
        loss = weighted_loss(nll, weights, batch.targets)
        for penalty in penalties:
            loss = loss + penalty()
        if not torch.isfinite(loss):
            names = ", ".join(document.id for document in batch.documents)
            raise CklError(f"the loss is {loss.item()} at step {done.steps + 1}; documents of the batch: {names}")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not torch.isfinite(get_total_norm(gradients)):
            names = ", ".join(document.id for document in batch.documents)
            raise CklError(f"a gradient is not finite at step {done.steps + 1}; documents of the batch: {names}")
        optimizer.step()
        tokens = int(batch.mask.sum())
        done.steps += 1
        done.losses += loss.item()
        done.tokens += tokens
        if advance:
            advance(tokens)
        after_step()
    model.eval()
    return done


@torch.no_grad()
def token_weights(model: nn.Module, documents: Sequence[EncodedDocument], weigh: Weigh) -> list[TokenWeights]:
    """The weights that the method gives now to some documents' tokens, whose texts, joined, are the text read."""
    shown, device = [], next(model.parameters()).device
    for document in documents:
        batch = collate([document], device)
        weights = weigh(batch, token_nll(model, batch.ids, batch.mask))[0]
        tokens, read = [], 0
        for _, end in document.offsets:  # tokens that split a character all stand for it; blanks may be no token's
            tokens.append(document.text[read:end])
            read = max(read, end)
        rounded = [round(weight, 4) for weight in weights.tolist()]
        shown.append(TokenWeights(document=document.id, tokens=tokens, weights=rounded))
    return shown
