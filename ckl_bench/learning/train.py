"""Learn: one epoch as a flat loop over batches, the only loss there is, and the weights it is given."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from typing_extensions import TypeIs

from ckl_bench import ranks, shares
from ckl_bench.encode import Batch, EncodedDocument, collate
from ckl_bench.errors import CklError, UserError
from ckl_bench.method import OfStep, Penalty, Step, Weigh
from ckl_bench.models.head import Hidden, forward, logits_of, nll_of, weighted_nll
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
    """(B, T-1) nats: NLL of every token but the first, given those before it; meaningless where the mask is 0.

    Where gradients are disabled no more than a chunk of the logits is ever there.
    """
    if not torch.is_grad_enabled():
        return _nll(forward(model, ids, mask), ids)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
    flat = F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return flat.view(ids.shape[0], -1)


def _nll(hidden: Hidden, ids: Tensor) -> Tensor:
    rows = torch.arange(ids.numel(), device=ids.device).view(ids.shape)[:, :-1]
    return nll_of(hidden, rows.flatten(), ids[:, 1:].flatten()).view(rows.shape)


def loss_slopes(weights: Tensor, mask: Tensor, sequences: int) -> Tensor:
    """(B, T-1): how the loss of a batch of `sequences` changes with a token's NLL: w_i / sum_i w_i / sequences."""
    weights = weights * mask
    return weights / (weights.sum(1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny) * sequences)


def weighted_loss(nll: Tensor, weights: Tensor, mask: Tensor) -> Tensor:
    """Scalar: per sequence sum_i w_i nll_i / sum_i w_i, then the mean over sequences (paper, equation 2).

    nll, weights, mask: (B, T-1); the mask is 1 on predicted tokens and silences padding whatever its weight.
    A sequence whose weights are all zero teaches nothing: it adds 0 to the mean.
    """
    weights = weights * mask
    nll = torch.where(mask > 0, nll, torch.zeros_like(nll))
    return ((weights * nll).sum(1) / weights.sum(1).clamp_min(torch.finfo(weights.dtype).tiny)).mean()


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """How much of a batch goes through the model at once; None sets no bound."""

    documents: int | None = None
    tokens: int | None = None  # with padding; one document always goes

    def holds(self, documents: int, tokens: int) -> bool:
        """Whether so many documents, of so many tokens together, go at once."""
        return (self.documents is None or documents <= self.documents) and (
            self.tokens is None or tokens <= self.tokens or documents == 1
        )


def split(batch: Batch, at_once: MicroBatch) -> list[Batch]:
    """A batch in parts of similar length that are small enough, without the padding that only other parts need."""
    if at_once.holds(len(batch.ids), batch.ids.numel()) or len(batch.documents) != len(batch.ids):
        return [batch]
    lengths = _lengths(batch)
    groups: list[list[int]] = []
    # The longest first: what the shorter ones need then fits where its tensors were.
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        count = len(groups[-1]) + 1 if groups else 0
        if not groups or not at_once.holds(count, count * lengths[groups[-1][0]]):
            groups.append([])
        groups[-1].append(row)
    return [_rows(batch, rows, lengths) for rows in groups]


def share(batch: Batch) -> Batch | None:
    """What this process learns of a batch, as many tokens as the others do; None where that is nothing."""
    if ranks.workers() == 1:
        return batch
    if len(batch.documents) != len(batch.ids):  # nobody but its method knows what its rows are
        return batch if ranks.first() else None
    lengths = _lengths(batch)
    own = shares.share(lengths)
    return _rows(batch, own, lengths) if own else None


def _lengths(batch: Batch) -> list[int]:
    places = torch.arange(1, batch.ids.shape[1] + 1, device=batch.mask.device)
    return (batch.mask * places).amax(1).tolist()  # type: ignore[no-any-return]


def _rows(batch: Batch, rows: Sequence[int], lengths: Sequence[int]) -> Batch:
    longest = max(lengths[row] for row in rows)
    return Batch(
        documents=tuple(batch.documents[row] for row in rows),
        ids=batch.ids[list(rows), :longest],
        mask=batch.mask[list(rows), :longest],
    )


def train_epoch(
    model: nn.Module,
    batches: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    weigh: Weigh,
    penalties: Sequence[Penalty] = (),
    advance: Advance | None = None,
    progress: Progress | None = None,
    after_step: Callable[[], None] = lambda: None,
    *,
    micro_batch: MicroBatch = MicroBatch(),
    reads_nll: bool = True,
    loss_scale: float = 1.0,
) -> Progress:
    """Train on every batch once; `progress` is what was done before, where an epoch goes on, and grows step by step.

    A batch goes through the model in parts as large as `micro_batch` lets them be, each weighed on its own; the loss
    stays that of the whole. Where `weigh` does not read the NLL, it gets one that is not a number. The head is applied
    only to tokens with a weight. Gradients pass through the model `loss_scale` times as large (float16).

    Several processes share each batch (`ckl_bench.ranks`): loss and gradient are summed over them, a penalty is the
    first one's, and every one takes the same step.

    Raises CklError where the loss or a gradient is not finite, before the optimizer would spread it: names step and
    documents.
    """
    model.train()
    _switch(optimizer, "train")
    of_step = [penalty for penalty in penalties if takes_step(penalty)]
    done = progress or Progress()
    for batch in _alike(batches, done):
        optimizer.zero_grad(set_to_none=True)
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        loss, sequences = torch.zeros((), device=batch.ids.device), len(batch.ids)
        with ranks.together(), _own_random(str(batch.ids.device)):
            own = share(batch)
            parts = split(own, micro_batch) if own is not None else []
            terms = [_learn_part(model, part, weigh, of_step, reads_nll, sequences, loss_scale) for part in parts]
            if terms:
                loss = torch.stack(terms).sum() / loss_scale
            if loss_scale != 1.0:
                for p in trained:
                    if p.grad is not None:
                        p.grad.div_(loss_scale)
            for penalty in penalties if ranks.first() or ranks.workers() == 1 else ():
                if takes_step(penalty):
                    continue
                term = penalty()
                if term.requires_grad:
                    term.backward()  # type: ignore[no-untyped-call]
                loss = loss + term.detach()
        shares.sum_gradients(trained)
        loss = shares.total(loss)
        gradients = [p.grad for p in trained if p.grad is not None]
        norm = get_total_norm(gradients).to(loss)
        # The one place where a step waits for the device.
        value, slope, read = torch.stack([loss.double(), norm.double(), batch.mask.sum().double()]).tolist()
        for found, what in ((value, f"the loss is {value}"), (slope, "a gradient is not finite")):
            if not math.isfinite(found):
                names = ", ".join(document.id for document in batch.documents)
                raise CklError(f"{what} at step {done.steps + 1}; documents of the batch: {names}")
        optimizer.step()
        done.steps += 1
        done.losses += value
        done.tokens += int(read)
        if advance:
            advance(int(read))
        after_step()
    model.eval()
    _switch(optimizer, "eval")
    return done


def _switch(optimizer: torch.optim.Optimizer, mode: Literal["train", "eval"]) -> None:
    """Let an optimizer that learns with other weights than it is scored with put in what is wanted.

    Schedule-free optimizers have both modes (Defazio et al. 2024, package schedulefree), torch's have none.
    """
    switch = getattr(optimizer, mode, None)
    if switch is not None:
        switch()


def _alike(batches: Iterable[Batch], done: Progress) -> Iterator[Batch]:
    """The batches; CklError where a method's stream gives processes other documents: they learn each batch together."""
    if ranks.world() == 1:
        yield from batches
        return
    for batch in chain(batches, [None]):
        each = ranks.gather(batch and [document.id for document in batch.documents])
        if any(found != each[0] for found in each):
            raise CklError(
                f"the stream gave the processes other documents at step {done.steps + 1}; it must depend on stage, "
                "seed and epoch alone"
            )
        if batch is not None:
            yield batch


@contextmanager
def _own_random(device: str) -> Iterator[None]:
    """Random numbers of this process's own, which the shared generator seeds: that one goes on alike in all."""
    if ranks.workers() == 1:
        yield
        return
    seed = int(torch.randint(1 << 62, ()))
    with torch.random.fork_rng(devices=[torch.device(device)] if device.startswith("cuda") else []):
        torch.manual_seed(seed + ranks.rank())
        yield


def takes_step(penalty: Penalty) -> TypeIs[OfStep]:
    """Whether a penalty wants to see the step, rather than the weights alone."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(penalty).parameters.values()
    return any(p.kind in kinds and p.default is inspect.Parameter.empty for p in parameters)


def _learn_part(
    model: nn.Module,
    part: Batch,
    weigh: Weigh,
    penalties: Sequence[OfStep],
    reads_nll: bool,
    sequences: int,
    scale: float,
) -> Tensor:
    """`scale` times what a part adds to the loss of a batch of `sequences`; its gradient goes to the parameters'."""
    hidden = cache(partial(forward, model, part.ids, part.mask))
    nll = _nll(hidden(), part.ids) if reads_nll else torch.full(part.targets.shape, math.nan, device=part.ids.device)
    weights = weigh(part, nll)
    slopes = loss_slopes(weights, part.targets, sequences) * scale
    row, place = (slopes != 0).nonzero(as_tuple=True)
    term = torch.zeros((), device=part.ids.device)
    if len(row):  # a part of which nothing is to be learned does not go through the model
        targets, slopes = part.ids[row, place + 1], slopes[row, place]
        term = weighted_nll(hidden(), row * part.ids.shape[1] + place, targets, slopes)
    if penalties:
        step = _step(hidden, part, weights)
        share = scale * len(part.ids) / sequences
        term = term + share * torch.stack([penalty(step) for penalty in penalties]).sum()
    if term.requires_grad:
        term.backward()  # type: ignore[no-untyped-call]
    elif len(row):
        raise UserError("no gradient reaches what trains through this model's layers; --method finetune trains all")
    return term.detach()


def _step(hidden: Callable[[], Hidden], part: Batch, weights: Tensor) -> Step:
    def logits(where: Tensor) -> Tensor:
        row, place = where.nonzero(as_tuple=True)
        return logits_of(hidden(), row * part.ids.shape[1] + place)

    return Step(batch=part, weights=weights, nll=lambda: _nll(hidden(), part.ids), logits=logits)


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
