"""What a model's kernels can do, found out with a few tokens before a meta-training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .learners import Kept, Learners
from .meta_gradient import Form, directional_derivative, slope
from .texts import documents


def supported_form(learners: Learners, ids: Sequence[int], device: torch.device) -> Form:
    """`forward` where every kernel of the model has a forward-mode derivative, else `central`.

    A kernel may drop a tangent without a word: along the mean's gradient every target's derivative has to be what its
    own gradient makes of it, which backward mode gives. That holds in half precision too, where no difference does.
    """
    texts = documents([ids[:8]], device)
    numbers = learners.scattered(1, torch.Generator().manual_seed(0))
    kept: Kept = []
    _, direction, slopes = slope(learners, numbers, texts, texts.even(), kept)
    each = torch.eye(len(texts.targets), device=device)
    expected = torch.stack([(slope(learners, numbers, texts, one)[1] * direction).sum() for one in each])
    try:
        found = directional_derivative(learners, numbers, texts, slopes, direction, "forward", kept=kept)
    except Exception:  # whatever a model's own code makes of a tangent
        return "central"
    near = 5e-2 if learners.dtype.itemsize < 4 else 1e-3
    return "forward" if (found - expected).norm() <= near * expected.norm() else "central"


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
    except Exception:  # whatever a model's own code makes of several rows
        return False
    alone = [states([text], numbers[i : i + 1])[0] for i, text in enumerate(three)]
    near = 5e-2 if learners.dtype.itemsize < 4 else 1e-3
    return all(bool((a - b).norm() <= near * b.norm()) for a, b in zip(together, alone, strict=True))
