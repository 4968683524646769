"""A frozen causal language model with adapters beside it, for any decoder that transformers has.

Only public parts of the base model are used: its hidden states, and its own forward for everything behind the last one
(head, its scaling and capping), for which its decoder is stood in for by the adapted hidden state.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions


class Adapter(nn.Module):
    """Norm, down-projection, causal transformer layers, up-projection that starts at zero."""

    def __init__(self, hidden: int, width: int, layers: int) -> None:
        super().__init__()
        heads = max(1, width // 64)
        while width % heads:
            heads -= 1
        self.norm = nn.LayerNorm(hidden)
        self.down = nn.Linear(hidden, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(layers)
        )
        self.up = nn.Linear(width, hidden)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, T, H) -> (B, T, H): what this adapter adds."""
        state = self.down(self.norm(hidden))
        mask = nn.Transformer.generate_square_subsequent_mask(hidden.shape[1], device=hidden.device, dtype=state.dtype)
        for layer in self.layers:
            state = layer(state, src_mask=mask, is_causal=True)
        return self.up(state)  # type: ignore[no-any-return]


class AdaptedModel(nn.Module):
    """The base model, frozen and in evaluation mode, and three adapters that train."""

    def __init__(self, base: nn.Module, *, shrink: int, layers: int, cache_bytes: int) -> None:
        super().__init__()
        self.base = base.requires_grad_(False).eval()
        config: Any = base.config
        text = config.get_text_config()
        depth = text.num_hidden_layers
        self.read = (1, (depth + 1) // 2, depth)  # hidden_states[0] are the embeddings
        width = max(8, text.hidden_size // shrink)
        like = next(base.parameters())
        self.adapters = nn.ModuleList(Adapter(text.hidden_size, width, layers) for _ in self.read).to(like.device)
        self._cache: dict[tuple[int, ...], Tensor] = {}
        self._room = cache_bytes

    def frozen_base(self) -> nn.Module:
        """The base model, which never changes."""
        return self.base

    def train(self, mode: bool = True) -> AdaptedModel:
        """Training mode for the adapters alone: dropout in the frozen model would spoil what is cached."""
        super().train(mode)
        self.base.eval()
        return self

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        use_cache: bool = False,
        logits_to_keep: int | Tensor = 0,
    ) -> Any:
        """As the base model's; `input_ids` (B, T) is padded on the right, where causal attention never sees it."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        states = self._hidden(input_ids, mask)  # (B, 3, T, H)
        added = torch.zeros_like(states[:, 0])
        for i, adapter in enumerate(self.adapters):
            added = added + adapter(states[:, i] + added)
        with _standing_in(self.base, states[:, -1] + added):
            return self.base(input_ids=input_ids, attention_mask=mask, use_cache=False, logits_to_keep=logits_to_keep)

    @torch.no_grad()
    def _hidden(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(B, 3, T, H): the base model's hidden states at the layers read, from the cache where they are known."""
        lengths = mask.sum(1).tolist()
        keys = [tuple(row[:length]) for row, length in zip(ids.tolist(), lengths, strict=True)]
        fresh: dict[tuple[int, ...], Tensor] = {}
        for i, key in enumerate(keys):
            if key not in self._cache and key not in fresh:
                # Each text by itself: its states then never depend, not even in their rounding, on its companions.
                output = self.base(
                    input_ids=ids[i : i + 1, : lengths[i]],
                    use_cache=False,
                    output_hidden_states=True,
                    logits_to_keep=1,
                )
                self._keep(key, fresh, torch.cat([output.hidden_states[layer] for layer in self.read]))
        like = next(iter(fresh.values())) if fresh else self._cache[keys[0]]
        states = torch.zeros(
            len(keys), len(self.read), ids.shape[1], like.shape[-1], dtype=like.dtype, device=ids.device
        )
        for row, key in enumerate(keys):
            states[row, :, : lengths[row]] = (fresh[key] if key in fresh else self._cache[key]).to(ids.device)
        return states

    def _keep(self, key: tuple[int, ...], fresh: dict[tuple[int, ...], Tensor], states: Tensor) -> None:
        fresh[key] = states
        size = states.numel() * states.element_size()
        if key not in self._cache and size <= self._room:
            self._cache[key] = states.cpu().clone()
            self._room -= size


@contextmanager
def _standing_in(base: Any, hidden: Tensor) -> Iterator[None]:
    """For one call, the base model's decoder answers with the given last hidden state instead of computing one."""
    decoder = base.get_decoder()

    def answer(*_: Any, **__: Any) -> BaseModelOutputWithPastAndCrossAttentions:
        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=hidden)

    decoder.forward = answer
    try:
        yield
    finally:
        del decoder.forward  # the class's own again
