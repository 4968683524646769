"""What learners read and predict: documents and tasks about their facts, several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Task:
    """A prompt about the document's fact: `ids` (T,), and the positions of the object's tokens in it."""

    ids: Tensor
    objects: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Texts side by side, and which of their tokens are to be predicted, N in all."""

    ids: Tensor  # (B, T), padded on the right: no more than is needed
    rows: Tensor  # (N,): positions of the flattened ids, behind which the targets stand
    targets: Tensor  # (N,)
    counts: list[int]  # targets of each text

    def mean(self, values: Tensor) -> Tensor:
        """(B,): the mean over each text's targets of `values` (N,)."""
        return torch.stack([part.mean() for part in torch.split(values, self.counts)])

    def even(self) -> Tensor:
        """(N,): the scales that make a sum over targets the sum over texts of their means."""
        return torch.cat([self.targets.new_full((n,), 1 / n, dtype=torch.float32) for n in self.counts])


def _side_by_side(texts: Sequence[Sequence[int]], predicted: Sequence[Sequence[int]], device: torch.device) -> Texts:
    longest = max(places[-1] for places in predicted)
    read = [list(ids[: places[-1]]) for ids, places in zip(texts, predicted, strict=True)]
    padded = [[*ids, *[0] * (longest - len(ids))] for ids in read]
    rows = [longest * i + place - 1 for i, places in enumerate(predicted) for place in places]
    targets = [ids[place] for ids, places in zip(texts, predicted, strict=True) for place in places]
    return Texts(
        ids=torch.tensor(padded, device=device),
        rows=torch.tensor(rows, device=device),
        targets=torch.tensor(targets, device=device),
        counts=[len(places) for places in predicted],
    )


def documents(texts: Sequence[Sequence[int]], device: torch.device) -> Texts:
    """Token ids of documents -> all of their tokens but the first, to be predicted."""
    return _side_by_side(texts, [range(1, len(ids)) for ids in texts], device)


def questions(tasks: Sequence[Task], device: torch.device) -> Texts:
    """Tasks -> their objects' tokens, to be predicted; nothing behind an object is read."""
    return _side_by_side([task.ids.tolist() for task in tasks], [task.objects for task in tasks], device)
