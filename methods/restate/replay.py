"""What the model would have said: questions about other names, answered by the base model, and KL to it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import torch
from torch import Tensor, nn

from ckl_bench.encode import Tokenizer

from .forms import Form
from .reader import Reader
from .rows import Row, side_by_side

AT_ONCE = 1024  # tokens


def own_words(
    base: nn.Module,
    tokenizer: Tokenizer,
    forms: Sequence[Form],
    names: Sequence[str],
    *,
    count: int,
    words: int,
    seed: int,
) -> list[Row]:
    """`count` questions, forms and names drawn, with the base model's likeliest `words` tokens behind them."""
    draw = random.Random(f"replay:{seed}")
    drawn = [draw.choice(forms).about(draw.choice(names)) for _ in range(count)]
    return continued(base, tokenizer(drawn, verbose=False)["input_ids"], words)


def continued(base: nn.Module, questions: Iterable[Sequence[int]], words: int) -> list[Row]:
    """Questions with the model's likeliest `words` tokens behind them, in the order of their lengths."""
    rows: list[Row] = []
    for group in _alike((list(question), len(question)) for question in questions):
        reader = Reader(base, torch.tensor([ids for ids, _ in group], device=next(base.parameters()).device))
        for _ in range(words):
            reader.read(reader.logits().argmax(-1))
        rows += [(row, begin) for row, (_, begin) in zip(reader.ids.tolist(), group, strict=True)]
    return rows


def _alike(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Rows in the order of their lengths, those of one length together: nothing is padded."""
    for length, alike in groupby(sorted(rows, key=lambda row: len(row[0])), key=lambda row: len(row[0])):
        group, at_once = list(alike), max(1, AT_ONCE // length)
        yield from (group[start : start + at_once] for start in range(0, len(group), at_once))


class Held:
    """KL(base ‖ model), nats a token, on rows that are drawn; the base model's side is computed once."""

    def __init__(self, base: nn.Module, rows: Iterable[Row]) -> None:
        self.rows: list[Row] = []
        self.said: list[Tensor] = []
        for group in _alike(rows):
            self.rows += group
            self.said += self._log_probabilities(base, group)

    @staticmethod
    @torch.no_grad()
    def _log_probabilities(base: nn.Module, rows: Sequence[Row]) -> Iterator[Tensor]:
        passed = side_by_side(base, rows)
        said = passed.logits().log_softmax(-1).half()
        return (said[passed.row == i] for i in range(len(rows)))

    def kl(self, logits: Tensor, picked: Sequence[int]) -> Tensor:
        """Scalar: the mean over the written tokens of the picked rows; `logits` (N, V) are the model's."""
        before = torch.cat([self.said[i] for i in picked]).float()
        return (before.exp() * (before - logits.log_softmax(-1))).sum(-1).mean()

    def drawn(self, count: int, key: str) -> list[int]:
        """The rows that go with a document, by `key` alone: the same in whatever part of a batch it stands."""
        return random.Random(key).sample(range(len(self.rows)), min(count, len(self.rows)))
