"""The scoring engine: probes -> token accuracy and NLL of each probe's object.

A probe's object is its last occurrence in the prompt, located by characters; its tokens are those whose characters
overlap it. The true prefix is given (teacher forcing). Tokens after the object are never computed, and the head is
applied only where an object token is predicted.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ckl_bench.benchmarks.format import Probe
from ckl_bench.encode import Tokenizer, object_span, pad, tokenize, tokens_in
from ckl_bench.errors import UserError
from ckl_bench.models.head import forward, read


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
    read_off: list[list[tuple[float, int, int]]] = [[] for _ in encoded]  # NLL, guess and truth of a probe's tokens
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    try:
        for group in _by_length(encoded, max_batch_tokens):
            # The last token of a prompt is only ever predicted, never read.
            ids, mask = pad([encoded[i].ids[:-1] for i in group])
            asked = [(row, at) for row, i in enumerate(group) for at in encoded[i].objects]
            rows = torch.tensor([row * ids.shape[1] + at - 1 for row, at in asked])
            truth = torch.tensor([encoded[group[row]].ids[at] for row, at in asked])
            hidden = forward(model, ids.to(device), mask.to(device))
            nll, guess = read(hidden, rows.to(device), truth.to(device))
            found = iter(zip(nll.tolist(), guess.tolist(), truth.tolist(), strict=True))
            for i in group:
                read_off[i] = [next(found) for _ in encoded[i].objects]
    finally:
        model.train(training)
    return scores_of(tokenizer, encoded, read_off)


def scores_of(
    tokenizer: Tokenizer, encoded: Sequence[EncodedProbe], read_off: Sequence[Sequence[tuple[float, int, int]]]
) -> list[ProbeScore]:
    """The scores of probes of whose every object token the NLL (nats), the likeliest and the true id are known."""
    said: dict[tuple[int, ...], str] = {}  # decoded once: most guesses come again
    scores = []
    for probe, tokens in zip(encoded, read_off, strict=True):
        guesses = tuple(guess for _, guess, _ in tokens)
        right = [guess == truth for _, guess, truth in tokens]
        if guesses not in said:
            said[guesses] = tokenizer.decode(list(guesses))
        scores.append(
            ProbeScore(
                id=probe.id,
                accuracy=sum(right) / len(right),
                exact=all(right),
                nll=sum(nll for nll, _, _ in tokens) / len(tokens),
                guess=said[guesses],
            )
        )
    return scores
