"""K-Adapter (Wang et al. 2021): the base model is frozen; small transformers beside it read its states and learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import PositiveInt
from torch import nn

from ckl_bench.method import Extent, Method, Needs, RunTarget, StageContext


@dataclass(frozen=True, kw_only=True)
class KAdapter(Method):
    """Adapters on the hidden states after the first, the middle and the last layer, as continual knowledge learning
    uses them (Jang et al. 2022).

    Each normalises its hidden state plus what the adapters before it have added, projects it down, runs `layers` causal
    transformer layers, projects it up and adds it; the sum joins the base model's last hidden state before the head.
    TAALM's released code joins 0.1 times a layer norm of the sum, which never starts from the base model; here the
    up-projections start at zero, and it does.

    The frozen model's hidden states of a text never change: they are computed once and kept, up to `cache_mb`, those of
    a stage's documents many at a time.
    """

    shrink: PositiveInt = 4  # an adapter is this many times narrower than the base model
    layers: PositiveInt = 2
    cache_mb: PositiveInt = 4096  # memory for hidden states; texts beyond it are computed again each time

    def inputs(self, target: RunTarget) -> Mapping[str, Path]:
        from .model import shape_of

        if target.outline is not None:  # a model that adapters cannot stand beside is refused before it is loaded
            shape_of(target.outline())
        return {}

    def build(self, load: Callable[..., nn.Module]) -> nn.Module:
        from .model import AdaptedModel

        return AdaptedModel(load(), shrink=self.shrink, layers=self.layers, cache_bytes=self.cache_mb * 10**6)

    def penalty(self, model: nn.Module, stage: StageContext) -> None:
        """No term of the loss: here a stage begins, whose documents the frozen model may read together."""
        from .model import AdaptedModel

        if isinstance(model, AdaptedModel):
            model.read_together([document.ids for document in stage.documents])

    def needs(self, extent: Extent) -> Needs:
        states = 3 * 4 * extent.width * extent.stage_tokens
        return Needs(memory={"hidden states kept": min(states, self.cache_mb * 10**6)}, trunk_once=True)
