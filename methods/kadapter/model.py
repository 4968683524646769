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

from ckl_bench.encode import by_length, pad
from ckl_bench.errors import UserError

TOKENS = 1024  # of documents that are read together, with padding; a longer one is read alone
Key = tuple[int, ...]  # the tokens of a text
_REFUSED = "kadapter cannot stand beside a model of type '{kind}': {why}; use --method lora"


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
        depth, hidden = shape_of(base)
        self.read = (1, (depth + 1) // 2)  # hidden_states[0] are the embeddings; the last is what the head reads
        width = max(8, hidden // shrink)
        self.adapters = nn.ModuleList(Adapter(hidden, width, layers) for _ in range(3)).to(like.device)
        self._cache: dict[Key, Tensor] = {}
        self._groups: dict[Key, Sequence[Key]] = {}
        self._room = self._capacity = cache_bytes
        self._bytes = 3 * hidden * like.element_size()  # of a token's states

    def frozen_base(self) -> nn.Module:
        """The base model, which never changes."""
        return self.base

    def read_together(self, texts: Sequence[Key]) -> None:
        """Let these texts be read in groups of similar length, which they alone fix; any other text is read by itself.

        What a run that was stopped reads when it goes on is then the same to the last bit: a text's states depend on
        its group in their rounding. Texts that the cache has no room for are read alone, since they are read each time.
        """
        grouped, self._groups, room = self._groups, {}, self._capacity
        each = list(dict.fromkeys(texts))
        for places in by_length([len(key) for key in each], TOKENS):
            group = [each[i] for i in places]
            size = sum(map(len, group)) * self._bytes
            if size <= room:
                room -= size
                self._groups |= dict.fromkeys(group, group)
        for key in (*grouped, *self._groups):
            self._cache.pop(key, None)
        self._room = room - sum(map(_bytes, self._cache.values()))
        if self._room < 0:  # what was read alone gives way; read again it is the same
            self._cache.clear()
            self._room = room

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
        fresh: dict[Key, Tensor] = {}
        for key in keys:
            if key not in self._cache and key not in fresh:
                fresh |= self._read(self._groups.get(key, [key]), ids.device)
        like = next(iter(fresh.values())) if fresh else self._cache[keys[0]]
        states = torch.zeros(len(keys), 3, ids.shape[1], like.shape[-1], dtype=like.dtype, device=ids.device)
        for row, key in enumerate(keys):
            states[row, :, : lengths[row]] = (fresh[key] if key in fresh else self._cache[key]).to(ids.device)
        return states

    def _read(self, group: Sequence[Key], device: torch.device) -> dict[Key, Tensor]:
        """Each text's states (3, its tokens, H), kept where there is room."""
        ids, mask = (x.to(device) for x in pad(group))
        found, last = _states(self.base, ids, mask if len(group) > 1 else None)
        every = torch.stack([*(found[layer] for layer in self.read), last], 1)
        # Copies, so that no text keeps the padding of its group.
        rows = {key: row[:, : len(key)].clone() for key, row in zip(group, every, strict=True)}
        for key, row in rows.items():
            size = 0 if key in self._groups else _bytes(row)  # a group's room was taken when it was made
            if size <= self._room:
                self._cache[key] = row.cpu()
                self._room -= size
        return rows


def _bytes(states: Tensor) -> int:
    return states.numel() * states.element_size()


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


def _states(base: Any, ids: Tensor, mask: Tensor | None = None) -> tuple[Sequence[Tensor], Tensor]:
    """The hidden states of texts (B, T), each (B, T, H), and what the head reads of them, (B, T, H)."""
    seen: list[Tensor] = []

    def last_alone(state: Tensor) -> Tensor:
        seen.append(state)
        return state[:, -1:]  # logits of the others would be for nothing

    with _head_reads(base, last_alone):
        output = base(input_ids=ids, attention_mask=mask, use_cache=False, output_hidden_states=True)
    return output.hidden_states, seen[0]


@torch.no_grad()
def shape_of(base: Any) -> tuple[int, int]:
    """(layers, width), found out from a text of two tokens. UserError for a model that adapters cannot stand beside."""
    kind = getattr(base.config, "model_type", type(base).__name__)
    head = getattr(base, "get_output_embeddings", lambda: None)()
    why = "it has no head of its own"
    narrow = "its layers are not as wide as what its head reads"
    if head is not None:
        device = next(base.parameters()).device
        if device.type == "meta":  # an outline, known before anything is loaded: nothing can be computed with it
            text = base.config.get_text_config()
            if head.weight.shape[-1] != text.hidden_size:
                raise UserError(_REFUSED.format(kind=kind, why=narrow))
            return text.num_hidden_layers, text.hidden_size
        try:
            states, last = _states(base, torch.ones(1, 2, dtype=torch.long, device=device))
        except Exception:  # whatever a model's own code makes of it
            states, last = (), torch.empty(0)
        why = "its hidden states cannot be read"
        if states and all(state.shape == last.shape for state in states[1:]):
            return len(states) - 1, last.shape[-1]
        if states:
            why = narrow
    raise UserError(_REFUSED.format(kind=kind, why=why))
