"""What a writer makes of a document: its likeliest statements among all that a form, a name and an answer give."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch

from ckl_bench.encode import Tokenizer

from .forms import Form, spans, subjects
from .writer import asked, ended, reading


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A question up to its object, an answer that the document names, and how sure the writer is of both, in nats."""

    prefix: str
    object: str
    score: float


@dataclass(eq=False)
class _Node:
    """A place in a tree of token sequences; `ends` is what a sequence that ends here stands for."""

    next: dict[int, _Node] = field(default_factory=dict)
    ends: Any = None


def _tree(sequences: Sequence[tuple[Sequence[int], Any]]) -> _Node:
    root = _Node()
    for ids, value in sequences:
        node = root
        for token in ids:
            node = node.next.setdefault(token, _Node())
        if node.ends is None:
            node.ends = value
    return root


@dataclass(frozen=True)
class _Beam:
    node: _Node
    row: int  # of the cache
    token: int
    score: float
    question: tuple[str, str] | None = None  # (prefix, subject), once it is whole


@torch.no_grad()
def write(
    model: Any,
    tokenizer: Tokenizer,
    text: str,
    forms: Sequence[Form],
    *,
    beams: int = 24,
    answers: int = 3,
    max_tokens: int = 512,
) -> list[Statement]:
    """A document's statements, the likeliest first: questions of the forms about its names, answered by its words.

    Beam search over two trees, of questions and of answers; of a question no more than `answers` beams are kept, so
    that many are asked. A question comes back with each of its answers that were found.
    """
    device = next(model.parameters()).device
    questions = [(form.about(subject), subject) for subject in subjects(text) for form in forms]
    first = _tree(list(zip(asked(tokenizer, [prefix for prefix, _ in questions]), questions, strict=True)))
    words = list(dict.fromkeys(spans(text)))
    second = _tree(list(zip(ended(tokenizer, words), words, strict=True)))
    ids = torch.tensor([reading(tokenizer, text, max_tokens)], device=device)
    # The cache had the other name in older transformers.
    kept = "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
    out = model(input_ids=ids, use_cache=True)
    cache, logits = out[kept], out.logits[:, -1]
    live = [_Beam(first, 0, -1, 0.0)]
    found: dict[tuple[str, str], Statement] = {}
    while live:
        scores = logits.float().log_softmax(-1)
        grown: list[_Beam] = []
        for row, beam in enumerate(live):
            tokens = list(beam.node.next)
            for token, value in zip(tokens, scores[row, tokens].tolist(), strict=True):
                grown += _grow(beam, row, token, beam.score + value, second, found)
        live = _best(grown, beams, answers)
        if live:
            cache = deepcopy(cache) if cache is out[kept] else cache
            cache.reorder_cache(torch.tensor([beam.row for beam in live], device=device))
            last = torch.tensor([[beam.token] for beam in live], device=device)
            step = model(input_ids=last, use_cache=True, **{kept: cache})
            cache, logits = step[kept], step.logits[:, -1]
    return sorted(found.values(), key=lambda statement: -statement.score)


def _grow(
    beam: _Beam, row: int, token: int, score: float, answers: _Node, found: dict[tuple[str, str], Statement]
) -> list[_Beam]:
    """A beam one token longer; what is whole goes on as an answer's beginning, or is found."""
    node = beam.node.next[token]
    if beam.question is None:
        more = [_Beam(answers, row, token, score, node.ends)] if node.ends is not None else []
        return more + ([_Beam(node, row, token, score)] if node.next else [])
    if node.ends is not None:
        prefix, subject = beam.question
        if node.ends != subject and (prefix, node.ends) not in found:
            found[prefix, node.ends] = Statement(prefix=prefix, object=node.ends, score=score)
    return [_Beam(node, row, token, score, beam.question)] if node.next else []


def _best(beams: Sequence[_Beam], count: int, answers: int) -> list[_Beam]:
    kept: list[_Beam] = []
    of: Counter[tuple[str, str]] = Counter()
    for beam in sorted(beams, key=lambda beam: -beam.score):
        if beam.question is None or of[beam.question] < answers:
            kept.append(beam)
            if beam.question is not None:
                of[beam.question] += 1
    return kept[:count]
