"""What a frozen model makes of documents: read once, and many at a time in groups that are fixed beforehand.

A group depends on the stage's documents alone, not on the batch in which one of them is asked for, so that a run that
was stopped reads the same groups again and ends with the same numbers to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ckl_bench.encode import Batch, EncodedDocument, by_length, collate

TOKENS = 1024  # of a group, with padding; a longer document is a group of its own
Ids = tuple[int, ...]


class Readings:
    """`read(ids, mask)`, both (B, T) -> (B, T-1), of every document once; what it gives on padding is not looked at."""

    def __init__(
        self,
        documents: Sequence[EncodedDocument],
        read: Callable[[Tensor, Tensor], Tensor],
        device: torch.device | str,
    ) -> None:
        self._read, self._device = read, device
        self._known: dict[Ids, Tensor] = {}
        texts = list({document.ids: document for document in documents}.values())
        self._group: dict[Ids, list[EncodedDocument]] = {}
        for places in by_length([len(document.ids) for document in texts], TOKENS):
            group = [texts[i] for i in places]
            self._group |= {document.ids: group for document in group}

    def of(self, batch: Batch) -> list[Tensor]:
        """What was read of each document of the batch, (its tokens - 1,); one that is not the stage's is read alone."""
        for document in batch.documents:
            if document.ids not in self._known:
                self._learn(self._group.get(document.ids, [document]))
        return [self._known[document.ids] for document in batch.documents]

    @torch.no_grad()
    def _learn(self, group: Sequence[EncodedDocument]) -> None:
        together = collate(group, self._device)
        found = self._read(together.ids, together.mask)
        for document, row in zip(group, found, strict=True):
            # A copy, so that no document keeps the padding of its group.
            self._known[document.ids] = row[: len(document.ids) - 1].clone()
