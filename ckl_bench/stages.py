"""Learn a plan's stages in sequence with one model, and score it: before, after every epoch, and on earlier stages."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from ckl_bench.benchmarks.format import Benchmark, Document, Probe, Stage
from ckl_bench.encode import Batch, EncodedDocument, Tokenizer, batches, collate, encode_documents
from ckl_bench.environment import peak_memory
from ckl_bench.errors import CklError
from ckl_bench.method import Scoring, StageContext, Weigh
from ckl_bench.models import BaseModel, share_trunk
from ckl_bench.progress import bar
from ckl_bench.records import Cost, EpochScores, SetScores, Spec, StageScores, TokenWeights
from ckl_bench.score import score_probes
from ckl_bench.stack import Stack
from ckl_bench.train import token_nll, train_epoch
from ckl_bench.tripwire import Tripwire

SHOWN = 4  # documents whose token weights are recorded
ProbeSets = Mapping[str, Sequence[Probe]]
Scores = dict[str, SetScores]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A request with everything resolved and checked, no weight loaded yet."""

    spec: Spec
    stack: Stack
    benchmark: Benchmark
    base: BaseModel
    inputs: Mapping[str, Path]
    device: str
    warnings: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What a finished run gives its record."""

    cost: Cost
    before: dict[str, Scores]
    stages: list[StageScores]


@dataclass
class _Clock:
    """Seconds per phase."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def learn_stages(plan: Plan) -> Learned:
    """Learn every stage in order. Sets torch's global random state from the spec's seed.

    Raises CklError where nothing trains, the loss is not finite, or the tripwire catches a rehearsed probe.
    """
    return _Run(plan).learn()


class _Run:
    """One model on its way through the stages."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.spec, self.stack = plan, plan.spec, plan.stack
        self.tokenizer: Tokenizer = plan.base.tokenizer
        self.clock = _Clock()
        self.probes = [_probe_sets(stage, plan.spec.limit) for stage in plan.benchmark.stages]
        self.tripwire = Tripwire(probe for sets in self.probes for rows in sets.values() for probe in rows)
        if plan.device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(plan.device)
        torch.manual_seed(self.spec.seed)
        with self.clock.phase("load"):
            self.model = self.stack.owner("build").build(plan.base.load)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        if not self.trained:
            raise CklError(f"{self.spec.method} builds a model in which no parameter trains")
        self.scoring = self.stack.owner("scoring").scoring(self.model)
        self.tokens = 0

    def learn(self) -> Learned:
        stages = self.plan.benchmark.stages
        names = [stage.name for stage in stages]
        before = {name: self.score(sets) for name, sets in zip(names[1:], self.probes[1:], strict=True)}
        scored: list[StageScores] = []
        for index, stage in enumerate(stages):
            documents = encode_documents(self.tokenizer, _first(stage.documents, self.spec.limit), self.spec.max_tokens)
            self.tripwire.begin(documents)
            epochs, weights = self.learn_stage(self.context(stage.name, index, documents), self.probes[index])
            scored.append(
                StageScores(
                    name=stage.name,
                    documents=len(documents),
                    probe_ids={name: [probe.id for probe in rows] for name, rows in self.probes[index].items()},
                    epochs=epochs,
                    rehearsed=self.tripwire.read,
                    token_weights=weights,
                    earlier={names[i]: self.score(self.probes[i]) for i in range(index)},
                )
            )
        return Learned(cost=self.cost(), before=before, stages=scored)

    def context(self, name: str, index: int, documents: Sequence[EncodedDocument]) -> StageContext:
        """What the hooks may know of a stage."""
        rows, limit = self.plan.benchmark.rehearsal, self.spec.max_tokens
        return StageContext(
            name=name,
            index=index,
            seed=self.spec.seed,
            documents=documents,
            rehearsal=cache(lambda: self.tripwire.hand_out(encode_documents(self.tokenizer, rows, limit))),
            base=lambda: _base_beside(self.model, self.plan.base),
            inputs=self.plan.inputs,
        )

    def learn_stage(self, stage: StageContext, probes: ProbeSets) -> tuple[list[EpochScores], list[TokenWeights]]:
        """Learn one stage, scoring its probe sets before the first epoch and after every one.

        Returns the scores, and the weights of the first documents' tokens where a method weighs them.
        """
        results = [EpochScores(epoch=0, train_loss=None, sets=self.score(probes))]
        optimizer = self.stack.owner("optimizer").optimizer(self.trained, self.spec.learning_rate)
        with self.clock.phase("weigh"):
            weigh = self.timed(self.stack.owner("weigh").weigh(self.model, self.tokenizer, stage))
        owners = self.stack.owners("penalty")
        penalties = [term for method in owners if (term := method.penalty(self.model, stage)) is not None]
        total = self.spec.epochs * sum(len(document.ids) for document in stage.documents)
        with bar(f"learning {stage.name}", total, "tokens") as advance:
            for epoch in range(1, self.spec.epochs + 1):
                # Order and dropout depend on seed, stage and epoch alone, not on what came before.
                torch.manual_seed(_mix(self.spec.seed, stage.index, epoch))
                order = random.Random(f"{self.spec.seed}:{stage.index}:{epoch}")
                plain: Iterable[Batch] = batches(stage.documents, self.spec.batch_size, order, self.plan.device)
                stream = self.tripwire.watch_stream(self.stack.owner("stream").stream(plain, stage, epoch))
                before = self.clock.seconds.get("weigh", 0.0)
                start = time.perf_counter()
                cost = train_epoch(self.model, stream, optimizer, weigh, penalties, advance)
                weighing = self.clock.seconds.get("weigh", 0.0) - before
                seconds = time.perf_counter() - start - weighing
                self.clock.seconds["train"] = self.clock.seconds.get("train", 0.0) + seconds
                self.tokens += cost.tokens
                views = self.views(probes) if epoch == self.spec.epochs else {}
                sets = views[self.scoring.main] if views and self.scoring else self.score(probes)
                results.append(EpochScores(epoch=epoch, train_loss=cost.loss, sets=sets, views=views))
        return results, self.weights_of(stage.documents[:SHOWN], weigh) if self.stack.owners("weigh") else []

    @torch.no_grad()
    def weights_of(self, documents: Sequence[EncodedDocument], weigh: Weigh) -> list[TokenWeights]:
        """The weights that the method gives now to some documents' tokens."""
        shown = []
        for document in documents:
            batch = collate([document], self.plan.device)
            weights = weigh(batch, token_nll(self.model, batch.ids, batch.mask))[0]
            tokens = [document.text[start:end] for start, end in document.offsets]
            rounded = [round(weight, 4) for weight in weights.tolist()]
            shown.append(TokenWeights(document=document.id, tokens=tokens, weights=rounded))
        return shown

    def score(self, probes: ProbeSets) -> Scores:
        """The scores of the model as its method wants it scored."""
        enter = self.scoring.views[self.scoring.main] if self.scoring else nullcontext
        return self.score_in(enter(), probes)

    def views(self, probes: ProbeSets) -> dict[str, Scores]:
        """The scores in every view of the model; empty where it is scored as it stands."""
        scoring: Scoring | None = self.scoring
        return {name: self.score_in(enter(), probes) for name, enter in scoring.views.items()} if scoring else {}

    def score_in(self, view: AbstractContextManager[object], probes: ProbeSets) -> Scores:
        with self.clock.phase("score"), view:
            return _score_sets(self.model, self.tokenizer, probes)

    def timed(self, weigh: Weigh) -> Weigh:
        """Token weights whose seconds are counted apart from the rest of training."""

        def weights(batch: Batch, nll: Tensor) -> Tensor:
            with self.clock.phase("weigh"):
                return weigh(batch, nll)

        return weights

    def cost(self) -> Cost:
        """What the run took so far."""
        seconds = self.clock.seconds
        learning = seconds.get("weigh", 0.0) + seconds.get("train", 0.0)
        return Cost(
            seconds={name: round(value, 3) for name, value in seconds.items()},
            train_tokens=self.tokens,
            train_tokens_per_second=round(self.tokens / max(learning, 1e-9), 2),
            peak_memory_bytes=peak_memory(self.plan.device),
            trainable_parameters=sum(p.numel() for p in self.trained),
            total_parameters=sum(p.numel() for p in self.model.parameters()),
        )


def _probe_sets(stage: Stage, limit: int | None) -> dict[str, Sequence[Probe]]:
    return {name: _first(rows, limit) for name, rows in stage.probes.items()}


def _score_sets(model: nn.Module, tokenizer: Tokenizer, probes: ProbeSets) -> Scores:
    """All probe sets in one pass, so that batches are full; then apart again."""
    flat = [probe for rows in probes.values() for probe in rows]
    scored = iter(score_probes(model, tokenizer, flat))
    sets = {}
    for name, rows in probes.items():
        own = [next(scored) for _ in rows]
        sets[name] = SetScores(
            accuracy=sum(s.accuracy for s in own) / len(own),
            exact=sum(s.exact for s in own) / len(own),
            nll=sum(s.nll for s in own) / len(own),
            probe_accuracy=[round(s.accuracy, 6) for s in own],
            probe_nll=[round(s.nll, 6) for s in own],
            probe_guess=[s.guess for s in own],
        )
    return sets


def _base_beside(model: nn.Module, base: BaseModel) -> nn.Module:
    shared = share_trunk(model)
    return shared if shared is not None else base.load()


def _first(items: Sequence[Document] | Sequence[Probe], limit: int | None) -> list:  # type: ignore[type-arg]
    return list(items[:limit] if limit else items)


def _mix(*numbers: int) -> int:
    """One 63-bit seed from several numbers."""
    return random.Random(":".join(map(str, numbers))).getrandbits(63)
