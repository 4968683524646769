"""WiSE-FT (Wortsman et al. 2022): scored halfway between the base model's weights and the learned ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch
from pydantic import Field, PositiveInt
from torch import nn

from ckl_bench.method import Extent, Method, Needs, Scoring


@dataclass(frozen=True, kw_only=True)
class WiseFt(Method):
    """Training is left alone; whenever the model is scored, its weights are θ0 + alpha · (θ - θ0).

    θ0 are the weights before the first stage. Adapters of LoRA are interpolated as what they add to the base model's
    weights. After a stage's last epoch the curve is recorded too, at alpha = 1/points, 2/points, ... 1.
    """

    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5
    points: PositiveInt = 4

    def scoring(self, model: nn.Module) -> Scoring:
        # What LoRA adds is a product of two factors: scaling the one that starts at zero scales the product.
        moving = {n: p for n, p in model.named_parameters() if p.requires_grad and "lora_A" not in n}
        start = {n: p.detach().clone() for n, p in moving.items()}

        @contextmanager
        def at(alpha: float) -> Iterator[None]:
            learned = {n: p.detach().clone() for n, p in moving.items()}
            with torch.no_grad():
                for name, p in moving.items():
                    p.copy_(torch.lerp(start[name], learned[name], alpha))
            try:
                yield
            finally:
                with torch.no_grad():
                    for name, p in moving.items():
                        p.copy_(learned[name])

        def view(alpha: float) -> Callable[[], AbstractContextManager[None]]:
            return partial(at, alpha)

        grid = {self.alpha, *((i + 1) / self.points for i in range(self.points))}
        return Scoring(main=_name(self.alpha), views={_name(alpha): view(alpha) for alpha in sorted(grid)})

    def needs(self, extent: Extent) -> Needs:
        return Needs(memory={"weights of the start": 4 * extent.trained, "weights learned": 4 * extent.trained})


def _name(alpha: float) -> str:
    return f"alpha={alpha:g}"
