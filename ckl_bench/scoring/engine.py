"""The scoring engine: probes -> token accuracy and NLL of each probe's object.

A probe's object is its last occurrence in the prompt, located by characters; its tokens are those whose characters
overlap it. The true prefix is given (teacher forcing). Tokens after the object are never computed, and the head is
applied only at the positions that predict an object token, where the model's `forward` takes `logits_to_keep`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ckl_bench.benchmarks.format import Probe
from ckl_bench.encode import Tokenizer, object_span, pad, tokenize, tokens_in
from ckl_bench.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ProbeScore:
    """What a model made of one probe."""

    id: str
    accuracy: float  # share of object tokens whose argmax prediction is right
    exact: bool  # all of them
    nll: float  # mean negative log-likelihood of the object tokens, nats
    guess: str  # the argmax predictions at the object's positions, as text


@dataclass(frozen=True, kw_only=True)
class EncodedProbe:
    """A probe as tokens, cut behind its object."""

    id: str
    ids: tuple[int, ...]
    objects: tuple[int, ...]  # positions of the object's tokens; never 0, which nothing predicts


def encode_probe(tokenizer: Tokenizer, probe: Probe) -> EncodedProbe:
    """Tokenise a probe and find its object; UserError where the object is absent or is the very first token."""
    ids, offsets = tokenize(tokenizer, probe.prompt)
    objects = [i for i in tokens_in(offsets, object_span(probe.prompt, probe.object)) if i > 0]
    if not objects:
        raise UserError(
            f"probe '{probe.id}': the object '{probe.object}' is the prompt's first token, which no model predicts; "
            "put words before it"
        )
    return EncodedProbe(id=probe.id, ids=tuple(ids[: objects[-1] + 1]), objects=tuple(objects))


def takes_logits_to_keep(model: nn.Module) -> bool:
    """Whether the model's forward can apply its head at chosen positions only."""
    inner: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    return "logits_to_keep" in inspect.signature(inner.forward).parameters


def logits_at(model: nn.Module, ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
    """Logits (B, P, V) in float32 at `positions` (P,) of `ids` (B, T)."""
    if takes_logits_to_keep(model):
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=positions).logits
        if logits.shape[1] == ids.shape[1]:  # it took the option and did not heed it, or all positions are wanted
            logits = logits[:, positions]
    else:
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, positions]
    return logits.float()  # type: ignore[no-any-return]


def _by_length(probes: Sequence[EncodedProbe], max_tokens: int) -> Iterator[list[int]]:
    """Indices of probes in batches of similar length, each at most `max_tokens` tokens with its padding."""
    group: list[int] = []
    for index in sorted(range(len(probes)), key=lambda i: len(probes[i].ids)):
        if group and (len(group) + 1) * len(probes[index].ids) > max_tokens:
            yield group
            group = []
        group.append(index)
    if group:
        yield group


@torch.no_grad()
def score_probes(
    model: nn.Module, tokenizer: Tokenizer, probes: Sequence[Probe], *, max_batch_tokens: int = 1024
) -> list[ProbeScore]:
    """Score every probe; results stand in the order of `probes` and do not depend on `max_batch_tokens`.

    The model is put into evaluation mode for the time of scoring. UserError for an empty list or an impossible probe.
    """
    if not probes:
        raise UserError("there are no probes to score; give a probe set with at least one probe")
    encoded = [encode_probe(tokenizer, probe) for probe in probes]
    scores: list[ProbeScore | None] = [None] * len(encoded)
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    try:
        for group in _by_length(encoded, max_batch_tokens):
            # The last token of a prompt is only ever predicted, never read.
            ids, mask = pad([encoded[i].ids[:-1] for i in group])
            needed = sorted({position - 1 for i in group for position in encoded[i].objects})
            logits = logits_at(model, ids.to(device), mask.to(device), torch.tensor(needed, device=device)).cpu()
            column = {position: c for c, position in enumerate(needed)}
            for row, i in enumerate(group):
                probe = encoded[i]
                own = logits[row, [column[position - 1] for position in probe.objects]]  # (objects, V)
                truth = torch.tensor([probe.ids[position] for position in probe.objects])
                guess = own.argmax(-1)
                right = guess == truth
                scores[i] = ProbeScore(
                    id=probe.id,
                    accuracy=right.float().mean().item(),
                    exact=bool(right.all()),
                    nll=F.cross_entropy(own, truth).item(),
                    guess=tokenizer.decode(guess.tolist()),
                )
    finally:
        model.train(training)
    return [score for score in scores if score is not None]
