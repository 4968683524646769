"""Work that the processes of a run divide: who does which part, and what the parts add up to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from ckl_bench import ranks

if TYPE_CHECKING:
    import torch
    from torch import Tensor

T = TypeVar("T")

SUMMED_AT_ONCE = 1 << 24  # numbers: 64 MiB in float32


def share(lengths: Sequence[int]) -> list[int]:
    """Which items are this process's, in order: the longest first, each goes to who has the least to do so far."""
    if ranks.workers() == 1:
        return list(range(len(lengths)))
    loads, own = [0] * ranks.workers(), []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        to = loads.index(min(loads))
        loads[to] += lengths[index]
        if to == ranks.rank():
            own.append(index)
    return sorted(own)


def shared(lengths: Sequence[int], work: Callable[[list[int]], Sequence[T]]) -> list[T]:
    """A result for every item: `work` is given this process's items and makes theirs; all get all, in order."""
    own = share(lengths)
    with ranks.together():
        made = list(work(own)) if own else []
    if ranks.workers() == 1:
        return made
    found: dict[int, T] = {}
    for part in ranks.gather(list(zip(own, made, strict=True))):
        found.update(part)
    return [found[index] for index in range(len(lengths))]


def sum_gradients(parameters: Sequence[torch.nn.Parameter]) -> None:
    """Each parameter's gradient becomes the sum of those of all processes; one that has none anywhere stays without."""
    if ranks.workers() == 1:
        return
    import torch

    there = torch.tensor([int(p.grad is not None) for p in parameters])
    ranks.add(there)
    group: list[Tensor] = []
    for parameter, count in zip(parameters, there.tolist(), strict=True):
        if not count:
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        group.append(parameter.grad)
        if sum(g.numel() for g in group) >= SUMMED_AT_ONCE:
            _sum(group)
            group = []
    _sum(group)


def _sum(tensors: Sequence[Tensor]) -> None:
    import torch

    if not tensors:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    ranks.add(flat)
    for tensor, part in zip(tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def total(values: Tensor) -> Tensor:
    """The sum of what each process gives."""
    if ranks.workers() == 1:
        return values
    found = values.clone()
    ranks.add(found)
    return found
