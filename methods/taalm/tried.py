"""What a model's kernels can do, found out with a few tokens before a meta-training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor

from .learners import Kept, Learners
from .meta_gradient import Form, directional_derivative, slope
from .texts import documents


def supported_form(learners: Learners, ids: Sequence[int], device: torch.device) -> Form:
    """`forward` where every kernel of the model has a forward-mode derivative, else `central`.

    A kernel may drop a tangent without a word: what the two forms give has to be alike.
    """
    texts = documents([ids[:8]], device)
    draw = torch.Generator().manual_seed(0)
    numbers, direction = (learners.scattered(1, draw) for _ in range(2))
    kept: Kept = []
    slopes = slope(learners, numbers, texts, texts.even(), kept)[2]
    found = {}
    try:
        for form in get_args(Form):
            found[form] = directional_derivative(
                learners, numbers, texts, slopes, direction.clone(), form, kept=kept if form == "forward" else None
            )
    except (NotImplementedError, RuntimeError, TypeError):
        return "central"
    apart = (found["forward"] - found["central"]).norm()
    return "forward" if apart <= 0.5 * found["central"].norm() else "central"


@torch.no_grad()
def side_by_side(learners: Learners, ids: Sequence[Sequence[int]], device: torch.device) -> bool:
    """Whether documents can go together: none of three of several lengths notices its neighbours."""
    numbers = learners.scattered(3, torch.Generator().manual_seed(0))
    three = [ids[i % len(ids)][: 8 + 3 * i] for i in range(3)]

    def states(texts: Sequence[Sequence[int]], own: Tensor) -> list[Tensor]:
        read = documents(texts, device)
        with learners.read(learners.views(own), read.ids) as hidden:
            return list(torch.split(hidden.states.flatten(0, 1)[read.rows].float(), read.counts))

    try:
        together = states(three, numbers)
    except (ValueError, RuntimeError):
        return False
    alone = [states([text], numbers[i : i + 1])[0] for i, text in enumerate(three)]
    near = 5e-2 if learners.dtype.itemsize < 4 else 1e-3
    return all(bool((a - b).norm() <= near * b.norm()) for a, b in zip(together, alone, strict=True))
