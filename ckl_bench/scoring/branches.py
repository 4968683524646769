"""Prompts as branches: what several of them begin with alike goes through the model once.

A row of tokens holds prompts in the order of their tokens, each from where it parts from the one before. A token has
the position that it has in its prompt, and sees the tokens before it in its prompt and no others, by a mask. It suits
models that attend by masks and positions that they are given; whether one does is tried once, on its own prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ckl_bench.encode import pad
from ckl_bench.models.head import forward, takes

WIDTH = 128  # tokens of a row: more would share little more, and all of them stand in one square of attention
WORTH = 0.9  # of the tokens of prompts side by side, with padding: where more than this are left, they go side by side
_TRIED = 24  # tokens of the prompts on which a model is tried
# What configurations call the reach of attention: within it a mask of ours is as good as the model's own.
_REACH = ("sliding_window", "sliding_window_size", "attention_chunk_size", "attention_window", "window_size")

Ids = tuple[int, ...]


@dataclass(kw_only=True)
class Row:
    """Prompts in one row of tokens."""

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)  # in its prompt
    until: list[int] = field(default_factory=list)  # the first place in the row that does not see this token
    places: dict[int, list[int]] = field(default_factory=dict)  # of each prompt, by its index: where its tokens stand


def rows(prompts: Sequence[Ids], width: int) -> list[Row]:
    """All prompts in rows of at most `width` tokens; a longer prompt has a row of its own."""
    made: list[Row] = []
    path: list[int] = []  # where the tokens of the prompt before stand in the row
    before: Ids = ()
    for index in sorted(range(len(prompts)), key=lambda i: prompts[i]):
        ids = prompts[index]
        shared = _alike(before, ids)
        if not made or len(made[-1].ids) + len(ids) - shared > width:
            made.append(Row())
            path, shared = [], 0
        row = made[-1]
        for place in path[shared:]:
            row.until[place] = len(row.ids)
        path = [*path[:shared], *range(len(row.ids), len(row.ids) + len(ids) - shared)]
        row.ids += ids[shared:]
        row.positions += range(shared, len(ids))
        row.until += [width + len(ids)] * (len(ids) - shared)  # to the row's end, until another prompt comes
        row.places[index] = path
        before = ids
    return made


def _alike(a: Ids, b: Ids) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


@dataclass(frozen=True, kw_only=True)
class Stacked:
    """Rows side by side, as the model is given them."""

    ids: Tensor  # (B, T)
    positions: Tensor  # (B, T)
    mask: Tensor  # (B, 1, T, T): what sees what


def stack(group: Sequence[Row], model: nn.Module) -> Stacked:
    """Rows padded on the right, with the mask in the form that the model's attention takes; padding sees itself."""
    ids, _ = pad([row.ids for row in group])
    positions, _ = pad([row.positions for row in group])
    until, _ = pad([row.until for row in group])  # what pads is seen by nobody behind it
    places = torch.arange(ids.shape[1])
    seen = (places[None, :] <= places[:, None]) & (places[None, :, None] < until[:, None, :])  # (B, T, T)
    seen = (seen | torch.eye(len(places), dtype=torch.bool))[:, None]
    if _kernel(model) == "eager":  # which adds it to scores
        mask = torch.zeros(seen.shape).masked_fill_(~seen, torch.finfo(torch.float32).min)
    else:
        mask = seen
    device = next(model.parameters()).device
    return Stacked(ids=ids.to(device), positions=positions.to(device), mask=mask.to(device))


def branching(model: nn.Module, prompts: Sequence[Ids], side_by_side: int, max_tokens: int) -> list[Row]:
    """The prompts in rows, where that saves enough of `side_by_side` tokens and the model suits; else none."""
    if max(map(len, prompts)) > reach(model):
        return []  # the mask would let a token see further than the model lets it
    made = rows(prompts, min(WIDTH, reach(model), max_tokens))
    spent = sum(len(row.ids) for row in made)
    return made if spent <= WORTH * side_by_side and suits(model, prompts) else []


def reach(model: nn.Module) -> int:
    """How far back every token of the model sees, by its configuration."""
    config: Any = getattr(model, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    found = [getattr(text, name, None) for name in _REACH]
    return min((value for value in found if isinstance(value, int) and value > 0), default=1 << 62)


_found: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


@torch.no_grad()
def suits(model: nn.Module, prompts: Sequence[Ids]) -> bool:
    """Whether the model makes of prompts in a row what it makes of each alone; tried on three, once."""
    if model not in _found:
        _found[model] = _kernel(model) in ("sdpa", "eager") and takes(model, "position_ids") and _agrees(model, prompts)
    return _found[model]


def _kernel(model: nn.Module) -> str:
    config: Any = getattr(model, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return str(getattr(text, "_attn_implementation", None))


def _agrees(model: nn.Module, prompts: Sequence[Ids]) -> bool:
    """Three prompts that part halfway: each of two with the last in a row, beside each alone and one row the other."""
    one = max(prompts, key=len)[:_TRIED]
    half = len(one) // 2
    if not half or len(one) > reach(model):
        return False
    tails = {one[half:], one[half:][::-1], one[: len(one) - half]}
    if len(tails) < 3:
        return False
    three = sorted((*one[:half], *tail) for tail in tails)  # in the order of a row
    try:
        alone = []
        for ids in three:
            given, mask = (side.to(next(model.parameters()).device) for side in pad([ids]))
            alone.append(forward(model, given, mask).states[0])
        rows_of_two = [_in_a_row(model, first, three[2]) for first in three[:2]]
    except Exception:  # whatever a model's own code makes of a mask and positions that it does not expect
        return False
    # Kernels round a row and a prompt alone differently; two rows alike, but for what their neighbours change.
    near, same = (1e-4, 1e-5) if alone[0].dtype == torch.float32 else (3e-2, 1e-3)
    return all(
        _near(row[0], first, near) and _near(row[1], alone[2], near)
        for row, first in zip(rows_of_two, alone, strict=False)
    ) and _near(rows_of_two[0][1], rows_of_two[1][1], same)


def _in_a_row(model: nn.Module, *prompts: Ids) -> list[Tensor]:
    """What the head is given of each prompt, where they stand in one row."""
    row = rows(prompts, sum(map(len, prompts)))[0]
    given = stack([row], model)
    states = forward(model, given.ids, given.mask, given.positions).states[0]
    return [states[row.places[index]] for index in range(len(prompts))]


def _near(a: Tensor, b: Tensor, share: float) -> bool:
    a, b = a.float(), b.float()
    return a.shape == b.shape and bool((a - b).abs().max() <= share * b.abs().max())
