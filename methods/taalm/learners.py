"""Learners side by side: one frozen model whose low-rank adapters are numbers from outside, a set for each row.

A row's product with its own adapters is one of a batch of products; the frozen weights meet all rows at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.autograd.forward_ad as dual
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from ckl_bench.errors import UserError
from ckl_bench.models.head import Hidden, forward

Pairs = Sequence[tuple[Tensor, Tensor]]  # of each adapted layer A (B, r, in) and B (B, out, r)
Kept = list[list[Tensor]]  # of each adapted layer its outputs, one a call


class Learners:
    """A model with peft's LoRA, and `start` (P,): its adapters' numbers one behind the other, where each row starts.

    Everywhere here `numbers` are those of B rows, (B, P). The model's own adapters are never read. Gradients pass
    through the model `magnified` times as large. `keeps`: what the adapted layers give may stay in memory.
    """

    def __init__(self, model: nn.Module, *, magnified: float = 1.0, keeps: bool = True) -> None:
        from peft.tuners.lora import LoraLayer

        self.model = model.requires_grad_(False).eval()
        self.magnified, self.keeps = magnified, keeps
        self.together = False  # whether rows do not notice each other, which is tried
        self._layers: list[Any] = []
        self._names: list[str] = []
        for name, module in model.named_modules():
            if isinstance(module, LoraLayer) and "default" in module.lora_A:
                self._layers.append(module)
                self._names += [f"{name}.lora_{part}.default.weight" for part in "AB"]
        own = [p for layer in self._layers for p in (layer.lora_A["default"].weight, layer.lora_B["default"].weight)]
        self._shapes = [p.shape for p in own]
        self.start = torch.cat([p.detach().flatten() for p in own])

    @property
    def dtype(self) -> torch.dtype:
        """In what products are computed."""
        device = self.start.device.type
        return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.start.dtype

    def views(self, numbers: Tensor) -> list[Tensor]:
        """`numbers` (B, P) as A (B, r, in) and B (B, out, r) of one layer behind the other."""
        parts = torch.split(numbers, [shape.numel() for shape in self._shapes], 1)
        return [part.view(-1, *shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def named(self, numbers: Tensor) -> dict[str, Tensor]:
        """One row's numbers (P,) under the names of the model's parameters."""
        return {name: view[0] for name, view in zip(self._names, self.views(numbers[None]), strict=True)}

    def flat(self, named: Mapping[str, Tensor]) -> Tensor:
        """What `named` has taken apart, (P,)."""
        return torch.cat([named[name].flatten() for name in self._names])

    def scattered(self, rows: int, draw: torch.Generator) -> Tensor:
        """Numbers around the start, to try things out: fresh adapters add nothing."""
        noise = torch.randn(rows, len(self.start), generator=draw).to(self.start)
        return self.start + 0.02 * noise

    @contextmanager
    def read(self, parts: Sequence[Tensor], ids: Tensor, kept: Kept | None = None) -> Iterator[Hidden]:
        """What the rows make of `ids` (B, T) with adapters `parts` (as `views` gives them); go back within the block.

        Padding stands on the right, where no causal model sees it. `kept` takes what every adapted layer gives.
        """
        if kept is not None:
            kept.extend([] for _ in self._layers)
        makers = [
            partial(_adapted, layer, a, b, ids.shape[1], kept[i] if kept is not None else None)
            for i, (layer, (a, b)) in enumerate(zip(self._layers, _paired(parts), strict=True))
        ]
        with self._behaving(makers):
            yield forward(self.model, ids, torch.ones_like(ids))

    @torch.no_grad()
    def tangent(self, numbers: Tensor, direction: Tensor, ids: Tensor, kept: Kept | None) -> Tensor:
        """(B, T, D): how the states that `read` gives change along `direction` (B, P), by forward-mode derivatives.

        With what `read` kept, the frozen weights meet the tangents alone. Raises NotImplementedError or RuntimeError
        where a kernel has no such derivative.
        """
        pairs, slopes = _paired(self.views(numbers)), _paired(self.views(direction))
        makers = [
            partial(_tangent, layer, a, b, da, db, ids.shape[1], iter(kept[i]) if kept is not None else None)
            for i, (layer, (a, b), (da, db)) in enumerate(zip(self._layers, pairs, slopes, strict=True))
        ]
        # Fused attention has no forward-mode derivative; the plain products have.
        with self._behaving(makers), sdpa_kernel(SDPBackend.MATH), dual.dual_level():
            states = forward(self.model, ids, torch.ones_like(ids)).states
            found = _parted(states)[1]
            return torch.zeros_like(states) if found is None else found.clone()

    @contextmanager
    def _behaving(self, makers: Sequence[Callable[..., Tensor]]) -> Iterator[None]:
        """For a while the adapted layers do what `makers` do."""
        for layer, make in zip(self._layers, makers, strict=True):
            layer.forward = make
        try:
            yield
        finally:
            for layer in self._layers:
                del layer.forward


def compute_again(model: nn.Module, name: str) -> None:
    """Let a model's layers be computed again for the gradient, in evaluation mode too; UserError where it has none.

    transformers' own switch waits for training mode, in which dropout would be drawn.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers: list[Any] = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise UserError(
            f"--checkpoint-activations: {name} cannot, its layers are not transformers' own; --set inner_r=N or "
            "max_tokens=N needs less memory too"
        )
    for layer in layers:
        layer.forward = partial(_again, layer.forward)


def _again(run: Callable[..., Any], *given: Any, **options: Any) -> Any:
    if not torch.is_grad_enabled():
        return run(*given, **options)
    return checkpoint(run, *given, use_reentrant=False, preserve_rng_state=False, **options)


def _paired(parts: Sequence[Tensor]) -> Pairs:
    return list(zip(parts[::2], parts[1::2], strict=True))


def _low(x: Tensor, a: Tensor, length: int) -> Tensor:
    """x (B, T, in), or (B * T, in), or of one row alone of any shape, times A (B, r, in): (..., r); T is `length`."""
    if not torch.is_autocast_enabled(x.device.type):
        x = x.to(a.dtype)
    if len(a) == 1:
        return x @ a[0].mT
    if x.dim() == 2 and len(x) == len(a) * length:
        x = x.view(len(a), length, -1)
    if x.dim() != 3 or len(x) != len(a):
        raise ValueError("a layer does not get its input row by row")
    return torch.bmm(x, a.mT)


def _add(y: Tensor, low: Tensor, b: Tensor, scale: float) -> Tensor:
    """y + scale * low B^T, in y's precision."""
    if low.dim() != 3 or len(low) != len(b):
        return (y + scale * (low @ b[0].mT)).to(y.dtype)
    return torch.baddbmm(y.view(*low.shape[:2], -1), low, b.mT, alpha=scale).to(y.dtype).view(y.shape)


def _adapted(
    layer: Any, a: Tensor, b: Tensor, length: int, kept: list[Tensor] | None, x: Tensor, *args: Any, **options: Any
) -> Tensor:
    y = _add(layer.base_layer(x, *args, **options), _low(x, a, length), b, layer.scaling["default"])
    if kept is not None:
        kept.append(y.detach())
    return y


def _tangent(
    layer: Any, a: Tensor, b: Tensor, da: Tensor, db: Tensor, length: int, kept: Iterator[Tensor] | None, x: Tensor
) -> Tensor:
    x, dx = _parted(x)
    low, dlow, scale = _low(x, a, length), _low(x, da, length), layer.scaling["default"]
    y = next(kept) if kept is not None else _add(layer.base_layer(x), low, b, scale)
    dy = torch.zeros_like(y)
    if dx is not None:
        dlow = dlow + _low(dx, a, length)
        dy = layer.base_layer(dx)
        if layer.base_layer.bias is not None:
            dy = dy - layer.base_layer.bias
    together, parts = torch.cat([dlow, low], -1), torch.cat([b, db], -1)
    return dual.make_dual(y, _add(dy.to(y.dtype), together, parts, scale))  # type: ignore[no-any-return, no-untyped-call]


def _parted(x: Tensor) -> tuple[Tensor, Tensor | None]:
    return dual.unpack_dual(x)  # type: ignore[no-any-return, no-untyped-call]
