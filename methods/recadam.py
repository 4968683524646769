"""RecAdam (Chen et al. 2020): Adam that is pulled back to where the stage began, less and less as it goes on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ckl_bench.method import Extent, Method, Needs


@dataclass(frozen=True, kw_only=True)
class RecAdam(Method):
    """θ ← θ - lr · (λ(t) · adam + (1 - λ(t)) · strength · (θ - θ*)), λ(t) = 1 / (1 + exp(-k (t - t0))), t in steps.

    θ* are the weights at the stage's start. Defaults are those of RecAdam's authors; `t0` counts optimizer steps, so a
    short run wants a smaller one. The pull acts on every trained weight; in TAALM's released code inverted groups
    exempt all LoRA weights from it.
    """

    strength: float = 5000.0
    k: float = 0.5
    t0: float = 250.0

    def optimizer(self, params: Sequence[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        return RecallAdamW(params, lr=lr, strength=self.strength, k=self.k, t0=self.t0)

    def needs(self, extent: Extent) -> Needs:
        return Needs(memory={"weights to be pulled to": 4 * extent.trained})


class RecallAdamW(torch.optim.AdamW):
    """AdamW whose step is scaled by λ(t) and joined by a pull of 1 - λ(t) to the weights it was made with."""

    def __init__(self, params: Sequence[nn.Parameter], *, lr: float, strength: float, k: float, t0: float) -> None:
        super().__init__(params, lr=lr, weight_decay=0.0)
        self._strength, self._k, self._t0 = strength, k, t0
        self._anchors: dict[nn.Parameter, Tensor] = {p: p.detach().clone() for p in params}
        self._steps = 0

    def anneal(self, step: int) -> float:
        """λ(t): the share of the new task at a step, counted from 1."""
        return 1.0 / (1.0 + math.exp(min(-self._k * (step - self._t0), 700.0)))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step; the pull is that of the weights before Adam moves them."""
        self._steps += 1
        share = self.anneal(self._steps)
        for group in self.param_groups:
            # A pull of more than the whole way would throw the weights past where they began, further each time.
            pull = min(group["lr"] * (1.0 - share) * self._strength, 1.0)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.lerp_(self._anchors[parameter], pull)
        rates = [group["lr"] for group in self.param_groups]
        for group, rate in zip(self.param_groups, rates, strict=True):
            group["lr"] = rate * share
        try:
            return super().step(closure)
        finally:
            for group, rate in zip(self.param_groups, rates, strict=True):
                group["lr"] = rate

    def state_dict(self) -> dict[str, Any]:
        """AdamW's state, with the steps taken and the anchors, so that a resumed stage goes on exactly."""
        return super().state_dict() | {"recall": {"steps": self._steps, "anchors": list(self._anchors.values())}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        state = dict(state_dict)
        recall = state.pop("recall")
        super().load_state_dict(state)
        self._steps = recall["steps"]
        for anchor, saved in zip(self._anchors.values(), recall["anchors"], strict=True):
            anchor.copy_(saved)
