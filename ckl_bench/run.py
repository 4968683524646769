"""Spec -> record: stages x epochs of training and scoring."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from ckl_bench.benchmarks.format import Benchmark, Document, Probe, load_benchmark
from ckl_bench.encode import Batch, Tokenizer, batches, encode_documents
from ckl_bench.environment import environment, peak_memory
from ckl_bench.errors import CklError, UserError
from ckl_bench.files import sha256_file
from ckl_bench.method import RunTarget, StageContext, Weigh
from ckl_bench.models import BaseModel, find_model, share_trunk
from ckl_bench.progress import bar
from ckl_bench.records import Cost, EpochScores, Record, SetScores, Spec, StageScores
from ckl_bench.score import score_probes
from ckl_bench.stack import Stack, make_stack
from ckl_bench.train import train_epoch


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What the user asks for; None takes the benchmark's default."""

    method: str
    benchmark: str = "lama-ckl-mini"
    model: str = "smollm2-135m"
    seed: int = 0
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    max_tokens: int = 512
    limit: int | None = None
    settings: Sequence[str] = ()
    methods_dir: Path | None = None
    device: str = "cpu"
    trust_remote_code: bool = False


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


def plan_run(request: RunRequest) -> Plan:
    """Resolve a request: every mistake that a user can make is found here. Raises UserError."""
    stack = make_stack(request.method, request.settings, request.methods_dir)
    benchmark = load_benchmark(request.benchmark)
    base = find_model(request.model, device=request.device, trust_remote_code=request.trust_remote_code)
    target = RunTarget(
        benchmark=request.benchmark,
        benchmark_hash=benchmark.hash,
        attention_sha256=benchmark.manifest["files"].get("attention/train.jsonl", ""),
        model=request.model,
        model_revision=base.revision,
        tokenizer_hash=base.tokenizer_hash,
    )
    inputs = stack.inputs(target)
    defaults = benchmark.manifest["defaults"]
    rates = (request.learning_rate, stack.learning_rate, float(defaults["learning_rate"]))
    spec = Spec(
        method=stack.label,
        hyperparameters=stack.hyperparameters,
        benchmark=benchmark.name,
        benchmark_kind=benchmark.kind,
        benchmark_hash=benchmark.hash,
        model=base.name,
        model_revision=base.revision,
        seed=request.seed,
        epochs=request.epochs or int(defaults["epochs"]),
        batch_size=request.batch_size or int(defaults["batch_size"]),
        learning_rate=next(rate for rate in rates if rate is not None),
        max_tokens=request.max_tokens,
        limit=request.limit,
        inputs={name: sha256_file(path) for name, path in inputs.items()},
    )
    certified = {m.get("revision") for m in benchmark.manifest.get("pretest_models", [])}
    warnings = []
    if base.revision not in certified:
        warnings.append(
            f"{benchmark.name} was pre-tested on other models than {base.name}: what {base.name} knows before training "
            "is measured at epoch 0, not certified"
        )
    return Plan(
        spec=spec, stack=stack, benchmark=benchmark, base=base, inputs=inputs, device=request.device, warnings=warnings
    )


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


def execute(plan: Plan) -> Record:
    """Run a plan to its end. A failure while it runs comes back as a record with status `failed`.

    Sets torch's global random state from the spec's seed.
    """
    surroundings = environment(plan.device)
    try:
        cost, stages = _run_stages(plan)
    except UserError:
        raise
    except (CklError, RuntimeError, MemoryError) as error:
        reason = f"{type(error).__name__}: {error}"
        return Record(run_id=plan.spec.run_id, status="failed", error=reason, spec=plan.spec, environment=surroundings)
    return Record(
        run_id=plan.spec.run_id, status="done", spec=plan.spec, environment=surroundings, cost=cost, stages=stages
    )


def _run_stages(plan: Plan) -> tuple[Cost, list[StageScores]]:
    spec, tokenizer, clock = plan.spec, plan.base.tokenizer, _Clock()
    if plan.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(plan.device)
    torch.manual_seed(spec.seed)
    with clock.phase("load"):
        model = plan.stack.owner("build").build(plan.base.load)
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise CklError(f"{spec.method} builds a model in which no parameter trains")
    scores: list[StageScores] = []
    tokens = 0
    for index, stage in enumerate(plan.benchmark.stages):
        documents = encode_documents(tokenizer, _first(stage.documents, spec.limit), spec.max_tokens)
        probes = {name: _first(rows, spec.limit) for name, rows in stage.probes.items()}
        context = StageContext(
            name=stage.name,
            index=index,
            seed=spec.seed,
            documents=documents,
            rehearsal=cache(lambda: encode_documents(tokenizer, plan.benchmark.rehearsal, spec.max_tokens)),
            base=lambda: _base_beside(model, plan.base),
            inputs=plan.inputs,
        )
        epochs, read = _run_stage(plan, model, trained, context, probes, clock)
        tokens += read
        scores.append(
            StageScores(
                name=stage.name,
                documents=len(documents),
                probe_ids={name: [probe.id for probe in rows] for name, rows in probes.items()},
                epochs=epochs,
            )
        )
    learning = clock.seconds.get("weigh", 0.0) + clock.seconds.get("train", 0.0)
    cost = Cost(
        seconds={name: round(value, 3) for name, value in clock.seconds.items()},
        train_tokens=tokens,
        train_tokens_per_second=round(tokens / max(learning, 1e-9), 2),
        peak_memory_bytes=peak_memory(plan.device),
        trainable_parameters=sum(p.numel() for p in trained),
        total_parameters=sum(p.numel() for p in model.parameters()),
    )
    return cost, scores


def _run_stage(
    plan: Plan,
    model: nn.Module,
    trained: Sequence[nn.Parameter],
    stage: StageContext,
    probes: Mapping[str, Sequence[Probe]],
    clock: _Clock,
) -> tuple[list[EpochScores], int]:
    """Learn one stage, scoring before the first epoch and after every one."""
    spec, stack, tokenizer = plan.spec, plan.stack, plan.base.tokenizer

    def score(epoch: int, loss: float | None) -> EpochScores:
        with clock.phase("score"):
            return EpochScores(epoch=epoch, train_loss=loss, sets=_score_sets(model, tokenizer, probes))

    results = [score(0, None)]
    optimizer = stack.owner("optimizer").optimizer(trained, spec.learning_rate)
    with clock.phase("weigh"):
        weigh = _timed(stack.owner("weigh").weigh(model, tokenizer, stage), clock)
    penalties = [term for method in stack.owners("penalty") if (term := method.penalty(model, stage)) is not None]
    read = 0
    total = spec.epochs * sum(len(document.ids) for document in stage.documents)
    with bar(f"learning {stage.name}", total, "tokens") as advance:
        for epoch in range(1, spec.epochs + 1):
            # Order and dropout depend on seed, stage and epoch alone, not on what came before.
            torch.manual_seed(_mix(spec.seed, stage.index, epoch))
            order = random.Random(f"{spec.seed}:{stage.index}:{epoch}")
            plain: Iterable[Batch] = batches(stage.documents, spec.batch_size, order, plan.device)
            stream = stack.owner("stream").stream(plain, stage, epoch)
            before = clock.seconds.get("weigh", 0.0)
            start = time.perf_counter()
            cost = train_epoch(model, stream, optimizer, weigh, penalties, advance)
            weighing = clock.seconds.get("weigh", 0.0) - before
            clock.seconds["train"] = clock.seconds.get("train", 0.0) + time.perf_counter() - start - weighing
            read += cost.tokens
            results.append(score(epoch, cost.loss))
    return results, read


def _score_sets(model: nn.Module, tokenizer: Tokenizer, probes: Mapping[str, Sequence[Probe]]) -> dict[str, SetScores]:
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


def _timed(weigh: Weigh, clock: _Clock) -> Weigh:
    def weights(batch: Batch, nll: Tensor) -> Tensor:
        with clock.phase("weigh"):
            return weigh(batch, nll)

    return weights


def _base_beside(model: nn.Module, base: BaseModel) -> nn.Module:
    shared = share_trunk(model)
    return shared if shared is not None else base.load()


def _first(items: Sequence[Document] | Sequence[Probe], limit: int | None) -> list:  # type: ignore[type-arg]
    return list(items[:limit] if limit else items)


def _mix(*numbers: int) -> int:
    """One 63-bit seed from several numbers."""
    return random.Random(":".join(map(str, numbers))).getrandbits(63)
