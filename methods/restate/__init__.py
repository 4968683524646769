"""Restate: a document is learned together with the questions that a prepared writer asks and answers from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from ckl_bench.method import Extent, Method, Needs, Penalty, RunTarget, StageContext, Step
from ckl_bench.records import Preparation
from ckl_bench.stacks.settings import typed_settings, unique_settings


@dataclass(frozen=True, kw_only=True)
class Restate(Method):
    """Learning to be asked (after Jiang et al. 2024): the likeliest statements of each document are learned beside it.

    The forms of the statements are read off the benchmark's solved pairs, which no probe asks for; the writer, a LoRA
    on the base model trained on those pairs (`ckl-bench prepare restate`), fills them with the document's own words.
    Only the answer's tokens count, each statement as the writer is sure of it. A document's declared
    facts are never read. Of other names the model is held to what it would have said: KL to the base model on
    answers that it writes itself to questions of the same forms. Where probes are asked in forms that no solved pair
    has, less is to be expected: lama-ckl-mini's `asked_otherwise` says how much.
    """

    prepares_together: ClassVar[bool] = True
    # 1e-3 was better than 5e-4 on validation (EXPERIMENTS.md).
    learning_rates: ClassVar[Mapping[str, float]] = {"lora": 1e-3, "lora-null": 4e-3}

    # The prepared file, or the name of the benchmark that one which ships was trained on; None: that of this benchmark.
    writer: Path | None = None
    statements: PositiveInt = 4  # learned of a document, at most
    temperature: PositiveFloat = 2.0  # a statement weighs exp((score - best score) / temperature)
    strength: NonNegativeFloat = 4.0  # of the statements' loss beside the document's
    enough: NonNegativeFloat = 0.0  # nats an answer's token: a statement at or below it moves nothing more
    keep: NonNegativeFloat = 8.0  # of the KL
    replay: PositiveInt = 256  # answers that the base model writes, before the stage
    replayed: PositiveInt = 4  # of these answers with each document
    beams: PositiveInt = 12  # of the search for statements

    def inputs(self, target: RunTarget) -> Mapping[str, Path]:
        from .forms import require_pairs
        from .writer import FILES

        require_pairs(target, "restate")
        return {"writer": FILES.chosen(target, self.writer)}

    def preparation(self, inputs: Mapping[str, Path]) -> Preparation | None:
        from .writer import FILES

        cost = FILES.about(inputs["writer"]).get("cost")
        return Preparation(input="writer", **cost) if cost else None

    def penalty(self, model: nn.Module, stage: StageContext) -> Penalty:
        from .forms import names, required_forms
        from .learning import Beside, written
        from .replay import Held, drawn_questions
        from .rows import as_branches, try_branches

        pairs = stage.solved()
        forms = required_forms(pairs, "restate")
        device = next(model.parameters()).device
        statements = written(stage, forms, beams=self.beams, count=self.statements, device=device)
        known = sorted({name for pair in pairs for name in names(pair.text)})
        base = stage.base()
        questions = drawn_questions(stage.tokenizer, forms, known, count=self.replay, seed=stage.seed)
        held = Held(base, questions, words=4)
        try_branches(model, held.rows)
        beside = Beside(stage.tokenizer, statements, count=self.statements, temperature=self.temperature)

        def penalty(step: Step) -> Tensor:
            ids = [document.id for document in step.batch.documents]
            rows, weights = beside.of(ids)
            picked = [row for name in ids for row in held.drawn(self.replayed, f"{stage.seed}:{name}")]
            passed = as_branches(model, [*rows, *(held.rows[i] for i in picked)])
            kl = held.kl(passed.logits(len(rows)), picked)
            return self.strength * passed.nll(weights, self.enough) + self.keep * kl

        return penalty

    def needs(self, extent: Extent) -> Needs:
        from .training import expected

        return Needs(memory={"the writer": 2 * extent.base_bytes}, passes=8.0, beside=1.0, training=expected(extent))

    @classmethod
    def for_check(cls, *, benchmark: str, model: str, folder: Path) -> Mapping[str, object]:
        from ckl_bench.benchmarks.format import load_benchmark
        from ckl_bench.models.find import find_model

        cls().prepare(
            benchmark=load_benchmark(benchmark),
            base=find_model(model),
            out=folder / "writer.safetensors",
            device="cpu",
            seed=0,
            settings=("epochs=1", "r=2", "limit=2"),
            fresh=True,
        )
        return {"writer": folder / "writer.safetensors", "beams": 2, "replay": 4, "statements": 2}

    def prepare(self, *, settings: Sequence[str], **context: Any) -> None:
        """Train a writer; see `training.train_writer` for `context`, `training.Writing` for `settings`."""
        from .training import Writing, train_writer

        train_writer(settings=Writing(**typed_settings(Writing, unique_settings(settings))), **context)
