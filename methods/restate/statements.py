"""What a writer makes of a document: its likeliest statements among all that a form, a name and an answer give."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ckl_bench.encode import Tokenizer
from ckl_bench.models.head import takes
from ckl_bench.scoring.branches import suits

from .forms import Form, spans, subjects
from .reader import Reader
from .writer import asked, ended, reading

ROOM = 1 << 31  # bytes of what is kept of documents that are read side by side, for every beam; at the most
SIDE_BY_SIDE = 8  # documents: more make a step hardly shorter for each


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


class _Search:
    """Beam search over two trees, of a document's questions and of its answers.

    Of a question no more than `answers` beams are kept, so that many are asked. A beam that cannot come among the
    `count` likeliest questions ends: what it would be as a whole is no likelier than it is now.
    """

    def __init__(
        self, tokenizer: Tokenizer, text: str, forms: Sequence[Form], *, beams: int, answers: int, count: int | None
    ) -> None:
        self.beams, self.answers, self.count = beams, answers, count
        questions = [(form.about(subject), subject) for subject in subjects(text) for form in forms]
        first = _tree(list(zip(asked(tokenizer, [prefix for prefix, _ in questions]), questions, strict=True)))
        words = list(dict.fromkeys(spans(text)))
        self.second = _tree(list(zip(ended(tokenizer, words), words, strict=True)))
        self.live = [_Beam(first, 0, -1, 0.0)]
        self.found: dict[tuple[str, str], Statement] = {}

    def grow(self, scores: Tensor, start: int) -> None:
        """Every beam one token longer: its scores (V,) stand in `scores` (rows, V) from row `start` on."""
        grown: list[_Beam] = []
        for row, beam in enumerate(self.live, start):
            tokens = list(beam.node.next)
            for token, value in zip(tokens, scores[row, tokens].tolist(), strict=True):
                grown += self._longer(beam, row, token, beam.score + value)
        least = self._least()
        self.live = self._best([beam for beam in grown if beam.score >= least])

    def _least(self) -> float:
        """The score that a question needs to come among the likeliest, by what was found."""
        best: dict[str, float] = {}
        for (prefix, _), one in self.found.items():
            best[prefix] = max(best.get(prefix, -math.inf), one.score)
        return -math.inf if self.count is None or len(best) < self.count else sorted(best.values())[-self.count]

    def _longer(self, beam: _Beam, row: int, token: int, score: float) -> list[_Beam]:
        """What is whole goes on as an answer's beginning, or is found."""
        node = beam.node.next[token]
        if beam.question is None:
            more = [_Beam(self.second, row, token, score, node.ends)] if node.ends is not None else []
            return more + ([_Beam(node, row, token, score)] if node.next else [])
        if node.ends is not None:
            prefix, subject = beam.question
            if node.ends != subject and (prefix, node.ends) not in self.found:
                self.found[prefix, node.ends] = Statement(prefix=prefix, object=node.ends, score=score)
        return [_Beam(node, row, token, score, beam.question)] if node.next else []

    def _best(self, beams: Sequence[_Beam]) -> list[_Beam]:
        kept: list[_Beam] = []
        of: Counter[tuple[str, str]] = Counter()
        for beam in sorted(beams, key=lambda beam: -beam.score):
            if beam.question is None or of[beam.question] < self.answers:
                kept.append(beam)
                if beam.question is not None:
                    of[beam.question] += 1
        return kept[: self.beams]


def write(
    model: Any,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    forms: Sequence[Form],
    *,
    beams: int = 24,
    answers: int = 3,
    count: int | None = None,
    max_tokens: int = 512,
) -> Iterator[tuple[int, list[Statement]]]:
    """Each document's statements, the likeliest first, with its index: the longest documents come first.

    Statements are questions of the forms about the document's names, answered by its words; a question comes back with
    each of its answers that were found. With a `count`, the likeliest answers of so many likeliest questions are those
    of a search for all, and what cannot come among them is not searched for. Documents of similar length are read side
    by side, where the model takes masks and positions.
    """
    read = [reading(tokenizer, text, max_tokens) for text in texts]
    order = sorted(range(len(texts)), key=lambda i: -len(read[i]))
    while order:
        group = order[: _side_by_side(model, read[order[0]], beams)]
        del order[: len(group)]
        searches = [_Search(tokenizer, texts[i], forms, beams=beams, answers=answers, count=count) for i in group]
        _search(model, [read[i] for i in group], searches)
        for i, search in zip(group, searches, strict=True):
            yield i, sorted(search.found.values(), key=lambda statement: -statement.score)


def _side_by_side(model: Any, longest: Sequence[int], beams: int) -> int:
    if not (takes(model, "attention_mask") and suits(model, [tuple(longest)])):
        return 1
    config = model.config.get_text_config()
    token: int = 2 * config.num_hidden_layers * config.hidden_size * next(model.parameters()).element_size()
    return max(1, min(SIDE_BY_SIDE, ROOM // (token * len(longest) * beams)))


def _search(model: Any, read: Sequence[Sequence[int]], searches: Sequence[_Search]) -> None:
    """Let every search run to its end, each behind its document: padded on the left, so that all end together."""
    device, width = next(model.parameters()).device, max(map(len, read))
    ids = torch.tensor([[row[0]] * (width - len(row)) + list(row) for row in read], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in read], device=device)
    reader = Reader(model, ids, mask if len(read) > 1 else None)
    while True:
        scores, start = reader.logits().log_softmax(-1), 0
        for search in searches:
            start, before = start + len(search.live), start
            search.grow(scores, before)
        live = [beam for search in searches for beam in search.live]
        if not live:
            return
        tokens, rows = (torch.tensor(x, device=device) for x in zip(*((b.token, b.row) for b in live), strict=True))
        reader.read(tokens, rows)
