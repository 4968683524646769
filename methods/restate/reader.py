"""A model that reads on, a token at a time, and need not read again what it has read."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ckl_bench.models.head import takes


def _sorts(cache: Any) -> bool:
    """Whether a cache can be sorted by rows: a model's own (MiniMax's) may sort a part of what it holds."""
    return hasattr(cache, "reorder_cache") and type(cache).__module__ == "transformers.cache_utils"


class Reader:
    """Rows of tokens side by side, each with what the model keeps of it; without a cache that it can sort, it rereads.

    `mask` (B, T) is 0 where a row is padded, on the left; None where none is.
    """

    def __init__(self, model: nn.Module, ids: Tensor, mask: Tensor | None = None) -> None:
        self.model, self.ids, self.mask = model, ids, mask
        self.cache: Any = None
        # The cache had the other name in older transformers.
        self._kept = next((name for name in ("cache", "past_key_values") if takes(model, name)), "")
        self._given: dict[str, Any] = {"use_cache": True} if self._kept else {}
        if takes(model, "logits_to_keep"):
            self._given["logits_to_keep"] = 1

    @torch.no_grad()
    def logits(self) -> Tensor:
        """(B, V) float32, of what comes behind each row."""
        given = dict(self._given)
        new = slice(-1 if self.cache is not None else 0, None)
        if self.mask is not None:
            given["attention_mask"] = self.mask
            if takes(self.model, "position_ids"):
                given["position_ids"] = (self.mask.cumsum(1) - 1).clamp_min(0)[:, new]
        if self.cache is not None:
            given[self._kept] = self.cache
        out = self.model(input_ids=self.ids[:, new], **given)
        cache = getattr(out, self._kept, None) if self._kept else None
        self.cache = cache if _sorts(cache) else None
        return out.logits[:, -1].float()  # type: ignore[no-any-return]

    def read(self, tokens: Tensor, rows: Tensor | None = None) -> None:
        """A token (B,) more for every row; of the rows that stand, those that `rows` (B,) says, in its order."""
        if rows is not None:
            self.ids = self.ids[rows]
            self.mask = self.mask[rows] if self.mask is not None else None
            if self.cache is not None:
                self.cache.reorder_cache(rows)
        self.ids = torch.cat([self.ids, tokens[:, None]], 1)
        if self.mask is not None:
            self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], 1)
