"""The output head in chunks: a token's NLL, its gradient and its best guess without all logits at once.

A model runs as it is, but for its head, which is shown one position only: a hook keeps the hidden states that the head
was given, and chunks of them meet its weights later, where they are needed. What a model does to its logits behind the
head (Gemma's soft cap, Cohere's and Granite's scale) is taken from its configuration and compared once with what the
model itself returns. Where that does not agree, or the head is no plain linear layer, the model's own logits are used.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHUNK = 1 << 24  # logits at once: 64 MiB in float32
_TIMES = ("logit_scale", "lm_head_multiplier")  # what configurations call a factor of the logits
_OVER = ("logits_scaling",)  # and a divisor
_CAPS = ("final_logit_softcapping", "logits_soft_cap", "final_logits_soft_cap")


@dataclass(frozen=True, kw_only=True)
class Behind:
    """What a model does to the logits of its head: cap * tanh(scale * logits / cap), or scale * logits."""

    scale: float = 1.0
    cap: float | None = None

    def apply_(self, logits: Tensor) -> Tensor:
        """The model's logits, written over the head's."""
        if self.scale != 1.0:
            logits.mul_(self.scale)
        return logits if self.cap is None else logits.div_(self.cap).tanh_().mul_(self.cap)

    def back_(self, gradient: Tensor, capped: Tensor | None) -> Tensor:
        """The gradient with respect to the head's logits, written over that with respect to the model's."""
        if self.cap is not None and capped is not None:
            gradient.mul_(capped.div_(self.cap).square_().neg_().add_(1.0))
        return gradient if self.scale == 1.0 else gradient.mul_(self.scale)


@dataclass(frozen=True, kw_only=True)
class Hidden:
    """What a forward pass gives while the head waits: its input, and the head; or the logits themselves."""

    states: Tensor  # (B, T, D), or the logits (B, T, V) where there is no head
    head: nn.Linear | None
    behind: Behind = Behind()

    def logits(self, states: Tensor) -> Tensor:
        """Float32 logits (N, V) of states (N, D)."""
        if self.head is None:
            return states.float().clone()
        return self.behind.apply_(F.linear(states, self.head.weight, self.head.bias).float().clone())


_found: WeakKeyDictionary[nn.Module, Behind | None] = WeakKeyDictionary()


def takes(model: nn.Module, name: str) -> bool:
    """Whether the model's forward has an argument of that name."""
    inner: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    return name in inspect.signature(inner.forward).parameters


def forward(model: nn.Module, ids: Tensor, mask: Tensor, positions: Tensor | None = None) -> Hidden:
    """Run a model on ids and mask (B, T), its head at one position of one row; gradients flow where they are enabled.

    With `positions` (B, T) of the tokens the mask may be (B, 1, T, T), for a model that takes both.
    """
    head = _head(model)
    if head is None or _found.get(head, Behind()) is None:
        return Hidden(states=_logits(model, ids, mask, positions), head=None)
    caught: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        caught.append(inputs[0])
        # Laid out as a tensor of its own: what lies apart is multiplied row by row, each with a copy of the weights.
        # No derivative goes through it: in forward mode the head would get one as large as itself, of zeros.
        return inputs[0][0, :1][None].detach() if inputs[0].dim() == 3 else inputs[0].detach(), *inputs[1:]

    handle = head.register_forward_pre_hook(keep)
    try:
        logits = _logits(model, ids, mask, positions)
    finally:
        handle.remove()
    if len(caught) == 1 and caught[0].shape[:-1] == ids.shape:
        if head not in _found:
            _found[head] = _behind(model, head, caught[0][:1, :1], logits)
        behind = _found[head]
        if behind is not None:
            return Hidden(states=caught[0], head=head, behind=behind)
    _found[head] = None
    return Hidden(states=_logits(model, ids, mask, positions), head=None)


def _logits(model: nn.Module, ids: Tensor, mask: Tensor, positions: Tensor | None) -> Tensor:
    given = {} if positions is None else {"position_ids": positions}
    return model(input_ids=ids, attention_mask=mask, use_cache=False, **given).logits  # type: ignore[no-any-return]


def _head(model: nn.Module) -> nn.Linear | None:
    """The model's head, where it is one plain linear layer."""
    get = getattr(model, "get_output_embeddings", None)
    try:
        head = get() if get is not None else None
    except (NotImplementedError, AttributeError):
        return None
    return head if type(head) is nn.Linear else None


@torch.no_grad()
def _behind(model: nn.Module, head: nn.Linear, states: Tensor, logits: Tensor) -> Behind | None:
    """What stands between the head and the model's logits; None where it is nothing that is known here."""
    config: Any = getattr(model, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    named = {
        name: value for name in (*_TIMES, *_OVER, *_CAPS) if isinstance(value := getattr(text, name, None), float | int)
    }
    scales = [float(named[n]) for n in _TIMES if n in named] + [1.0 / named[n] for n in _OVER if named.get(n)] + [1.0]
    caps = [float(named[n]) for n in _CAPS if named.get(n)]
    plain = head(states).float()
    near = 1e-5 if logits.dtype == head.weight.dtype == torch.float32 else 2e-2
    for cap, scale in product([*caps, None], scales):  # what is named first: at small logits a cap hardly shows
        behind = Behind(scale=scale, cap=cap)
        ours = behind.apply_(plain.clone())
        if ours.shape == logits.shape and bool((ours - logits).abs().max() <= near * logits.abs().max()):
            return behind
    return None


@torch.no_grad()
def side_by_side(one: Hidden, other: Hidden, rows: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Parts of `rows` (N,), positions of the flattened states, and the float32 logits (n, V) of both passes there.

    Both together are at most half of what a chunk holds, so that as much can be made of them; they may be written over.
    """
    for part in _chunks(len(rows), 4 * _width(one)):
        yield (
            part,
            one.logits(one.states.flatten(0, 1)[rows[part]]),
            other.logits(other.states.flatten(0, 1)[rows[part]]),
        )


def _width(hidden: Hidden) -> int:
    return hidden.states.shape[-1] if hidden.head is None else hidden.head.out_features


def _chunks(count: int, width: int) -> Iterator[slice]:
    rows = max(1, CHUNK // width)
    for start in range(0, count, rows):
        yield slice(start, start + rows)


def _nll_(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """NLL (N,) of the targets, and the sums (N, 1) that make probabilities of what `logits` is overwritten with."""
    picked = logits.gather(1, targets[:, None])
    top = logits.amax(1, keepdim=True)
    total = logits.sub_(top).exp_().sum(1, keepdim=True)
    return (total.log() + top - picked).squeeze(1), total


@torch.no_grad()
def nll_of(hidden: Hidden, rows: Tensor, targets: Tensor) -> Tensor:
    """(N,) nats: NLL of the targets (N,) that stand behind the positions `rows` of the flattened (B * T) states."""
    return read(hidden, rows, targets, guess=False)[0]


@torch.no_grad()
def read(hidden: Hidden, rows: Tensor, targets: Tensor, *, guess: bool = True) -> tuple[Tensor, Tensor]:
    """NLL (N,) of the targets and the most likely tokens (N,) at the positions `rows` of the flattened states.

    The guesses are empty where `guess` is False.
    """
    states = hidden.states.flatten(0, 1)
    nll, guesses = [states.new_empty(0, dtype=torch.float32)], [targets.new_empty(0)]
    for chunk in _chunks(len(rows), _width(hidden)):
        logits = hidden.logits(states[rows[chunk]])
        if guess:
            guesses.append(logits.argmax(1))
        nll.append(_nll_(logits, targets[chunk])[0])
    return torch.cat(nll), torch.cat(guesses)


def weighted_nll(hidden: Hidden, rows: Tensor, targets: Tensor, scales: Tensor) -> Tensor:
    """Scalar: sum over n of scales[n] * NLL(targets[n]), at the positions `rows` (N,) of the flattened states.

    Its gradient into the states, and into the head where that trains, is made with it, chunk by chunk.
    """
    states = hidden.states.flatten(0, 1)[rows]
    if hidden.head is None:
        return (scales * F.cross_entropy(states.float(), targets, reduction="none")).sum()
    head = hidden.head
    return _WeightedNll.apply(states, head.weight, head.bias, targets, scales, hidden.behind)  # type: ignore[no-any-return, no-untyped-call]


@torch.no_grad()
def nll_and_slopes(hidden: Hidden, states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """NLL (N,) of the targets (N,) behind `states` (N, D), rows of the hidden ones, and its gradient into them."""
    if hidden.head is None:
        logits = states.float() if states.dtype.itemsize < 4 else states
        slopes = torch.softmax(logits, 1)
        nll = F.cross_entropy(logits, targets, reduction="none")
        slopes[torch.arange(len(targets), device=targets.device), targets] -= 1.0
        return nll, slopes.to(states.dtype)
    weight, bias, behind = hidden.head.weight, hidden.head.bias, hidden.behind
    every, into = [], torch.empty_like(states)
    for chunk in _chunks(len(states), len(weight)):
        nll, slope = _nll_and_slope(states[chunk], weight, bias, targets[chunk], behind)
        every.append(nll)
        into[chunk] = slope.to(weight.dtype) @ weight
    return torch.cat(every), into


def logits_of(hidden: Hidden, rows: Tensor) -> Tensor:
    """Float32 logits (N, V) at the positions `rows` (N,) of the flattened states, with their gradient.

    All of them at once, as an autograd graph must hold them: ask for few rows.
    """
    states = hidden.states.flatten(0, 1)[rows]
    if hidden.head is None:
        return states.float()
    logits = F.linear(states, hidden.head.weight, hidden.head.bias).float() * hidden.behind.scale
    cap = hidden.behind.cap
    return logits if cap is None else cap * torch.tanh(logits / cap)


def _nll_and_slope(
    states: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, behind: Behind, scales: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """NLL (n,) of the targets, and scales (n,), or 1, times its gradient into the head's logits (n, V)."""
    logits = F.linear(states, weight, bias)
    logits = behind.apply_(logits.float() if logits.dtype.itemsize < 4 else logits)
    capped = logits.clone() if behind.cap is not None else None
    nll, total = _nll_(logits, targets)
    if scales is None:
        slope = logits.div_(total)  # softmax - one-hot
        slope.scatter_add_(1, targets[:, None], slope.new_full((len(targets), 1), -1.0))
    else:
        slope = logits.mul_(scales[:, None] / total)
        slope.scatter_add_(1, targets[:, None], -scales[:, None])
    return nll, behind.back_(slope, capped)


class _WeightedNll(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        scales: Tensor,
        behind: Behind,
    ) -> Tensor:
        of_states, of_weight, of_bias = ctx.needs_input_grad[:3]
        into = torch.empty_like(states) if of_states else None
        # float32, since what many chunks add up to in 16 bits is not their sum
        into_weight = torch.zeros_like(weight, dtype=torch.float32) if of_weight else None
        into_bias = torch.zeros_like(bias, dtype=torch.float32) if of_bias and bias is not None else None
        every = scales.new_empty(len(scales))
        for chunk in _chunks(len(states), len(weight)):
            every[chunk], slope = _nll_and_slope(states[chunk], weight, bias, targets[chunk], behind, scales[chunk])
            if into_bias is not None:
                into_bias += slope.sum(0)
            slope = slope.to(weight.dtype)
            if into is not None:
                into[chunk] = slope @ weight
            if into_weight is not None:
                into_weight += slope.T @ states[chunk]
        ctx.save_for_backward(into, into_weight, into_bias, every)
        return (scales * every).sum()

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = outputs
        into, into_weight, into_bias, every = ctx.saved_tensors
        made = [None if value is None else value * slope for value in (into, into_weight, into_bias)]
        return (*made, None, every * slope, None)
