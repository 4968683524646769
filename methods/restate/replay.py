"""What the model would have said: questions about other names, answered by the base model, and KL to it."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ckl_bench.encode import Tokenizer, pad
from ckl_bench.models.head import forward, logits_of

from .forms import Form
from .writer import Row, predicted


def own_words(
    base: Any, tokenizer: Tokenizer, forms: Sequence[Form], names: Sequence[str], *, count: int, words: int, seed: int
) -> list[Row]:
    """`count` questions, forms and names drawn, with the base model's likeliest `words` tokens behind them."""
    draw = random.Random(f"replay:{seed}")
    drawn = [draw.choice(forms).about(draw.choice(names)) for _ in range(count)]
    return continued(base, tokenizer(drawn, verbose=False)["input_ids"], words)


@torch.no_grad()
def continued(base: Any, questions: Iterable[Sequence[int]], words: int) -> list[Row]:
    """Questions with the model's likeliest `words` tokens behind them, in the order of their lengths."""
    by_length: dict[int, list[list[int]]] = defaultdict(list)
    for question in questions:
        by_length[len(question)].append(list(question))
    device = next(base.parameters()).device
    rows: list[Row] = []
    for length, group in sorted(by_length.items()):  # of one length each: nothing is padded
        ids = torch.tensor(group, device=device)
        for _ in range(words):
            logits = base(input_ids=ids, use_cache=False).logits[:, -1]
            ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], 1)
        rows += [(row, length) for row in ids.tolist()]
    return rows


class Held:
    """KL(base ‖ model), nats a token, on rows that are drawn; the base model's side is computed once."""

    def __init__(self, base: nn.Module, rows: Sequence[Row]) -> None:
        self.rows = list(rows)
        self.said = [self._log_probabilities(base, [row]).half() for row in self.rows]

    @staticmethod
    @torch.no_grad()
    def _log_probabilities(base: nn.Module, rows: Sequence[Row]) -> Tensor:
        return _logits(base, rows).log_softmax(-1)

    def kl(self, model: nn.Module, picked: Sequence[int]) -> Tensor:
        """Scalar: the mean over the written tokens of the picked rows, with gradient."""
        before = torch.cat([self.said[i] for i in picked]).float()
        now = _logits(model, [self.rows[i] for i in picked]).log_softmax(-1)
        return (before.exp() * (before - now)).sum(-1).mean()

    def drawn(self, count: int, key: str) -> list[int]:
        """The rows that go with a document, by `key` alone: the same in whatever part of a batch it stands."""
        return random.Random(key).sample(range(len(self.rows)), min(count, len(self.rows)))


def _logits(model: nn.Module, rows: Sequence[Row]) -> Tensor:
    device = next(model.parameters()).device
    ids, mask = (x.to(device) for x in pad([row for row, _ in rows]))
    row, place = predicted(rows, mask)
    return logits_of(forward(model, ids, mask), row * ids.shape[1] + place)
