"""The scoring engine: probes -> token accuracy and NLL of each probe's object.

A probe's object is its last occurrence in the prompt, located by characters; its tokens are those whose characters
overlap it. The true prefix is given (teacher forcing). Tokens after the object are never computed, what prompts begin
with alike is computed once (`branches`), and the head is applied only where an object token is predicted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ckl_bench.benchmarks.format import Probe
from ckl_bench.encode import Tokenizer, by_length, object_span, pad, tokenize, tokens_in
from ckl_bench.errors import UserError
from ckl_bench.models.head import forward, read
from ckl_bench.scoring.branches import branching, stack


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


@dataclass(frozen=True, kw_only=True)
class _Pass:
    """What goes through the model at once."""

    ids: Tensor  # (B, T)
    mask: Tensor  # (B, T), or of branches (B, 1, T, T)
    positions: Tensor | None
    predicted: dict[int, list[int]]  # by probe: where in the flattened (B * T) places its object is predicted


def _passes(model: nn.Module, probes: Sequence[EncodedProbe], max_tokens: int) -> Iterator[_Pass]:
    """The probes: what their prompts begin with alike once, where the model suits and it saves something."""
    # The last token of a prompt is only ever predicted, never read.
    prompts = [probe.ids[:-1] for probe in probes]
    lengths = [len(prompt) for prompt in prompts]
    groups = list(by_length(lengths, max_tokens))
    made = branching(model, prompts, sum(len(group) * lengths[group[-1]] for group in groups), max_tokens)
    device = next(model.parameters()).device
    for group in by_length([len(row.ids) for row in made], max_tokens):
        given, longest = stack([made[i] for i in group], model), len(made[group[-1]].ids)
        yield _Pass(
            ids=given.ids,
            mask=given.mask,
            positions=given.positions,
            predicted={
                probe: [line * longest + places[at - 1] for at in probes[probe].objects]
                for line, i in enumerate(group)
                for probe, places in made[i].places.items()
            },
        )
    for group in groups if not made else ():
        ids, mask = pad([prompts[i] for i in group])
        yield _Pass(
            ids=ids.to(device),
            mask=mask.to(device),
            positions=None,
            predicted={
                probe: [line * ids.shape[1] + at - 1 for at in probes[probe].objects]
                for line, probe in enumerate(group)
            },
        )


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
    training = model.training
    model.eval()
    try:
        for part in _passes(model, encoded, max_batch_tokens):
            hidden = forward(model, part.ids, part.mask, part.positions)
            rows = torch.tensor([place for places in part.predicted.values() for place in places])
            truth = torch.tensor([encoded[i].ids[at] for i in part.predicted for at in encoded[i].objects])
            nll, guess = read(hidden, rows.to(part.ids.device), truth.to(part.ids.device))
            found = iter(zip(nll.tolist(), guess.tolist(), truth.tolist(), strict=True))
            for i in part.predicted:
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
