"""Null-space LoRA (after Tang et al. 2025, LoRA-Null): adapters that hardly see what known questions excite."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from ckl_bench import ranks
from ckl_bench.encode import Tokenizer
from ckl_bench.errors import UserError
from ckl_bench.method import BuildContext, RunTarget
from ckl_bench.models.head import forward

from .lora import Lora
from .restate.forms import names, require_pairs, required_forms

ROWS = 1024  # tokens of questions that are read at once
ROOM = 1 << 29  # numbers of the layers' second moments that are held at once: 2 GiB


@dataclass(frozen=True, kw_only=True)
class LoraNull(Lora):
    """Each adapter adds B A x, and A is fixed: its rows lie in the directions in which the layer's inputs x have next
    to nothing while the base model reads questions that it should answer as before. Only B trains.

    These are questions of the solved pairs' forms about names in their documents. Whatever B becomes, they go through
    nearly as they did, while what a new name adds to x is seen. Where LoRA-Null trains both factors from such a start,
    here A never leaves it. What a layer's weights take of the inputs is a matter of direction, so every x counts as
    long as every other. Takes a decomposition of each layer's inputs, as wide as they are.
    """

    learning_rate: ClassVar[float | None] = 4e-3  # chosen with restate on validation; B alone takes larger steps

    r: PositiveInt = 64
    alpha: float = 64.0
    energy: Annotated[float, Field(gt=0, lt=1)] = 0.98  # of the inputs' squares, in the directions that are closed
    questions: PositiveInt = 1024

    def inputs(self, target: RunTarget) -> Mapping[str, Path]:
        require_pairs(target, "lora-null")
        return super().inputs(target)

    def build(self, load: Callable[..., nn.Module], context: BuildContext | None = None) -> nn.Module:
        model = self.adapt(load())
        rows = {name: layer.lora_A["default"].weight for name, layer in _adapted(model).items()}
        if context is not None:
            for name, closed in _closed(model, _questions(context, self.questions), self.energy):
                _leave(rows[name], closed)
            ranks.as_first([row.data for row in rows.values()])
        for row in rows.values():
            row.requires_grad_(False)
        return model


def _adapted(model: nn.Module) -> dict[str, Any]:
    """The layers with adapters, by name; not those of experts whose weights are one tensor, which train as in LoRA."""
    from peft.tuners.lora import Linear

    return {name: module for name, module in model.named_modules() if isinstance(module, Linear)}


def _questions(context: BuildContext, count: int) -> list[list[int]]:
    """Tokens of questions, forms and names drawn, alike for every seed."""
    pairs = context.solved()
    forms = required_forms(pairs, "lora-null")
    known = sorted({name for pair in pairs for name in names(pair.text)})
    if not known:
        raise UserError("lora-null: no solved pair's text has a name to ask about; use lora in its place")
    draw = random.Random("lora-null")
    drawn = [draw.choice(forms).about(draw.choice(known)) for _ in range(count)]
    tokenizer: Tokenizer = context.tokenizer
    return [list(ids) for ids in tokenizer(list(dict.fromkeys(drawn)), verbose=False)["input_ids"]]


def _closed(model: nn.Module, questions: Sequence[Sequence[int]], energy: float) -> Iterator[tuple[str, Tensor]]:
    """Layers with the fewest orthonormal directions (in, k) that hold `energy` of what their inputs are."""
    for part in _parts(_adapted(model)):
        for sharing, squares in _second_moments(model, part, questions):
            closed = closing(squares, energy)
            for name in sharing:
                yield name, closed


def _parts(layers: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """As many layers at once as there is room for; for each part the model reads the questions anew."""
    part: dict[str, Any] = {}
    for name, layer in layers.items():
        if part and sum(other.in_features**2 for other in part.values()) + layer.in_features**2 > ROOM:
            yield part
            part = {}
        part[name] = layer
    yield part


def closing(squares: Tensor, energy: float) -> Tensor:
    """(in, k) orthonormal: the fewest directions that hold a share `energy` of the second moments (in, in)."""
    values, vectors = torch.linalg.eigh(squares)
    values = values.clamp_min(0)
    share = values.flip(0).cumsum(0) / values.sum()
    closed: Tensor = vectors[:, len(values) - 1 - int((share < energy).sum()) :]
    return closed


@torch.no_grad()
def _leave(rows: Tensor, closed: Tensor) -> None:
    """Take the closed directions out of the rows (r, in) of an adapter, as long together as they were."""
    wide = rows.to(closed)
    left = wide - (wide @ closed) @ closed.T
    rows.copy_(left * (wide.norm() / left.norm().clamp_min(torch.finfo(closed.dtype).tiny)))


@torch.no_grad()
def _second_moments(
    model: nn.Module, layers: Mapping[str, Any], questions: Sequence[Sequence[int]]
) -> Iterator[tuple[list[str], Tensor]]:
    """Layers that read the very same inputs x (queries, keys and values), and the sum of x x^T (in, in) over them.

    Every x is made one long: a first token's may be a thousand.
    """
    squares: dict[str, Tensor] = {}
    first: dict[str, str] = {}  # layer -> the one that is given its inputs first, or it itself
    before: tuple[str, Tensor | None] = "", None

    def see(name: str, inputs: Tensor) -> None:
        nonlocal before
        shown = first.setdefault(name, before[0] if inputs is before[1] else name)
        before = shown, inputs
        if shown != name:
            return
        x = inputs.reshape(-1, inputs.shape[-1]).float()
        x = x / x.norm(dim=1, keepdim=True).clamp_min(1e-6)
        squares[name] = squares.get(name, torch.zeros((), device=x.device)) + x.T @ x

    device = next(model.parameters()).device
    by_length: dict[int, list[Sequence[int]]] = defaultdict(list)
    for ids in questions:
        by_length[len(ids)].append(ids)
    peft_model: Any = model
    # The adapters add nothing yet, and cost a quarter more. Switched on again, their A trains as B does.
    with _watched(layers, see), peft_model.disable_adapter():
        for length, rows in by_length.items():  # of one length each: nothing is padded
            for at in range(0, len(rows), max(1, ROWS // length)):
                part = torch.tensor(rows[at : at + max(1, ROWS // length)], device=device)
                forward(model.eval(), part, torch.ones_like(part))
    for name, found in squares.items():
        yield [layer for layer, shown in first.items() if shown == name], found


@contextmanager
def _watched(layers: Mapping[str, Any], see: Callable[[str, Tensor], None]) -> Iterator[None]:
    handles = [
        layer.register_forward_pre_hook(lambda _, given, name=name: see(name, given[0]))
        for name, layer in layers.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
