"""A frozen causal language model with adapters beside it, for any decoder whose head is a layer of its own.

Only public parts of the base model are used: its hidden states, and its head, whose input is read and put in by a hook.
What the model does behind its head (scaling, capping) is thereby done as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ckl_bench.errors import UserError


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
        like = next(base.parameters())
        depth, hidden = _shape_of(base)
        self.read = (1, (depth + 1) // 2)  # hidden_states[0] are the embeddings; the last is what the head reads
        width = max(8, hidden // shrink)
        self.adapters = nn.ModuleList(Adapter(hidden, width, layers) for _ in range(3)).to(like.device)
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
        kept = slice(-logits_to_keep or None, None) if isinstance(logits_to_keep, int) else logits_to_keep
        with _head_reads(self.base, lambda _: (states[:, -1] + added)[:, kept]):
            # The frozen model reads one token, whose state the head never sees.
            return self.base(input_ids=input_ids[:1, :1], use_cache=False)

    @torch.no_grad()
    def _hidden(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(B, 3, T, H): the base model's hidden states at the layers read, from the cache where they are known."""
        lengths = mask.sum(1).tolist()
        keys = [tuple(row[:length]) for row, length in zip(ids.tolist(), lengths, strict=True)]
        fresh: dict[tuple[int, ...], Tensor] = {}
        for i, key in enumerate(keys):
            if key not in self._cache and key not in fresh:
                # Each text by itself: its states then never depend, not even in their rounding, on its companions.
                found, last = _states(self.base, ids[i : i + 1, : lengths[i]])
                self._keep(key, fresh, torch.cat([*(found[layer] for layer in self.read), last]))
        like = next(iter(fresh.values())) if fresh else self._cache[keys[0]]
        states = torch.zeros(len(keys), 3, ids.shape[1], like.shape[-1], dtype=like.dtype, device=ids.device)
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
def _head_reads(base: Any, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """For one call, the base model's head reads what `change` makes of its input."""

    def put_in(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (change(inputs[0]), *inputs[1:])

    hook = base.get_output_embeddings().register_forward_pre_hook(put_in)
    try:
        yield
    finally:
        hook.remove()


def _states(base: Any, ids: Tensor) -> tuple[Sequence[Tensor], Tensor]:
    """The hidden states of one text (1, T), each (1, T, H), and what the head reads of it, (1, T, H)."""
    seen: list[Tensor] = []

    def last_alone(state: Tensor) -> Tensor:
        seen.append(state)
        return state[:, -1:]  # logits of the others would be for nothing

    with _head_reads(base, last_alone):
        output = base(input_ids=ids, use_cache=False, output_hidden_states=True)
    return output.hidden_states, seen[0]


@torch.no_grad()
def _shape_of(base: Any) -> tuple[int, int]:
    """(layers, width), found out from a text of two tokens. UserError for a model that adapters cannot stand beside."""
    kind = getattr(base.config, "model_type", type(base).__name__)
    head = getattr(base, "get_output_embeddings", lambda: None)()
    why = "it has no head of its own"
    if head is not None:
        device = next(base.parameters()).device
        if device.type == "meta":  # an outline, which `ckl-bench plan` counts: nothing can be computed with it
            text = base.config.get_text_config()
            return text.num_hidden_layers, text.hidden_size
        try:
            states, last = _states(base, torch.ones(1, 2, dtype=torch.long, device=device))
        except (IndexError, TypeError, ValueError, AttributeError, RuntimeError):
            states, last = (), torch.empty(0)
        why = "its hidden states cannot be read"
        if states and all(state.shape == last.shape for state in states[1:]):
            return len(states) - 1, last.shape[-1]
        if states:
            why = "its layers are not as wide as what its head reads"
    raise UserError(f"kadapter cannot stand beside a model of type '{kind}': {why}; use --method lora")
