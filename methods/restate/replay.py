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
from .rows import Row

AT_ONCE = 1024  # tokens


def drawn_questions(
    tokenizer: Tokenizer, forms: Sequence[Form], names: Sequence[str], *, count: int, seed: int
) -> list[list[int]]:
    """Tokens of `count` questions, forms and names drawn."""
    draw = random.Random(f"replay:{seed}")
    drawn = [draw.choice(forms).about(draw.choice(names)) for _ in range(count)]
    return [list(ids) for ids in tokenizer(drawn, verbose=False)["input_ids"]]


def continued(base: nn.Module, questions: Iterable[Sequence[int]], words: int) -> Iterator[tuple[Row, Tensor]]:
    """Questions with the model's likeliest `words` tokens behind them, in the order of their lengths.

    With each what the model made of these tokens' places: log probabilities (words, V) in 16 bits.
    """
    by_length = sorted(map(list, questions), key=len)
    for length, alike in groupby(by_length, key=len):  # of one length each: nothing is padded
        group = list(alike)
        for start in range(0, len(group), max(1, AT_ONCE // length)):
            ids = torch.tensor(group[start : start + max(1, AT_ONCE // length)], device=next(base.parameters()).device)
            reader, said = Reader(base, ids), []
            for _ in range(words):
                said.append(reader.logits().log_softmax(-1))
                reader.read(said[-1].argmax(-1))
            for row, made in zip(reader.ids.tolist(), torch.stack(said, 1).half(), strict=True):
                yield (row, length), made.clone()


class Held:
    """KL(base ‖ model), nats a token, on answers that the base model wrote: rows that are drawn."""

    def __init__(self, base: nn.Module, questions: Iterable[Sequence[int]], words: int) -> None:
        written = list(continued(base, questions, words))
        self.rows = [row for row, _ in written]
        self.said = [said for _, said in written]

    def kl(self, logits: Tensor, picked: Sequence[int]) -> Tensor:
        """Scalar: the mean over the written tokens of the picked rows; `logits` (N, V) are the model's."""
        before = torch.cat([self.said[i] for i in picked]).float()
        return (before.exp() * (before - logits.log_softmax(-1))).sum(-1).mean()

    def drawn(self, count: int, key: str) -> list[int]:
        """The rows that go with a document, by `key` alone: the same in whatever part of a batch it stands."""
        return random.Random(key).sample(range(len(self.rows)), min(count, len(self.rows)))
