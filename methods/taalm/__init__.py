"""TAALM (Seo, Lee, Yeo 2024): a meta-learned train-attention φ weighs each token's loss by its future usefulness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ckl_bench.encode import Batch, Tokenizer
from ckl_bench.learning.readings import Readings
from ckl_bench.method import Extent, Method, Needs, RunTarget, StageContext, Weigh
from ckl_bench.records import Preparation
from ckl_bench.stacks.settings import typed_settings, unique_settings


@dataclass(frozen=True, kw_only=True)
class Taalm(Method):
    """Token weights from a φ trained beforehand by `ckl-bench train-attention` (paper, section 3).

    `attention` is φ's file, or the name of the benchmark on which one that ships was trained; None takes the one that
    ships for this benchmark and model. φ is frozen in a run, so a document's weights are computed once; where the base
    model is frozen too, φ shares its memory.
    """

    learning_rates: ClassVar[Mapping[str, float]] = {"lora-null": 1e-2}  # better than 4e-3 on validation
    attention: Path | None = None

    def inputs(self, target: RunTarget) -> Mapping[str, Path]:
        from .attention import FILES

        return {"attention": FILES.chosen(target, self.attention)}

    def preparation(self, inputs: Mapping[str, Path]) -> Preparation | None:
        from .attention import FILES

        cost = FILES.about(inputs["attention"]).get("cost")
        return Preparation(input="attention", **cost) if cost else None

    reads_nll: ClassVar[bool] = False
    prepares_together: ClassVar[bool] = True

    def weigh(self, model: nn.Module, tokenizer: Tokenizer, stage: StageContext) -> Weigh:
        from .attention import load_attention

        phi = load_attention(stage.inputs["attention"], stage.base())
        known = Readings(stage.documents, phi, next(phi.parameters()).device)

        def weights(batch: Batch, nll: Tensor) -> Tensor:
            return torch.nn.utils.rnn.pad_sequence(known.of(batch), batch_first=True).to(nll)

        return weights

    def needs(self, extent: Extent) -> Needs:
        from .meta_train import expected

        phi = 4 * 8 * extent.inputs_and_outputs  # of the rank that train-attention takes by itself
        return Needs(memory={"train-attention φ": phi + extent.base_bytes}, passes=1.0, training=expected(extent))

    @classmethod
    def for_check(cls, *, benchmark: str, model: str, folder: Path) -> Mapping[str, object]:
        from ckl_bench.benchmarks.format import load_benchmark
        from ckl_bench.models.find import find_model

        small = ("steps=1", "batch_size=2", "held_out=1", "validate_every=1", "inner_r=2", "r=2")
        cls().prepare(
            benchmark=load_benchmark(benchmark),
            base=find_model(model),
            out=folder / "phi.safetensors",
            device="cpu",
            seed=0,
            settings=small,
            fresh=True,
        )
        return {"attention": folder / "phi.safetensors"}

    def prepare(self, *, settings: Sequence[str], **context: Any) -> None:
        """Meta-train φ; see `training.train_attention` for `context`, `meta_train.MetaTraining` for `settings`."""
        from .meta_train import MetaTraining
        from .training import train_attention

        train_attention(settings=MetaTraining(**typed_settings(MetaTraining, unique_settings(settings))), **context)
