"""A model scored as it stands: request -> plan (everything checked, no weight loaded) -> record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

from torch import nn

from ckl_bench.benchmarks.format import Benchmark, Probe, load_benchmark
from ckl_bench.errors import OUT_OF_MEMORY, CklError, UserError, out_of_memory
from ckl_bench.learning.environment import environment, peak_memory, settle
from ckl_bench.learning.fits import require_fit, texts_of_probes
from ckl_bench.learning.retain import beside, check, measured, measured_before
from ckl_bench.learning.sizes import Sizes, precision
from ckl_bench.learning.subject import Loading, Subject, find_subject
from ckl_bench.learning.tasks import Retain
from ckl_bench.progress import Clock, Line, line
from ckl_bench.records import Cost, EpochScores, Record, Retained, StageScores
from ckl_bench.scoring.engine import ProbeScore, encode_probe, score_probes
from ckl_bench.scoring.sets import ProbeSets, in_sets
from ckl_bench.scoring.vllm_adapters import require_adapter
from ckl_bench.scoring.vllm_backend import Running
from ckl_bench.scoring.vllm_engine import Engine, require_backend, telling
from ckl_bench.spec import Dtype, Spec
from ckl_bench.storage.checkpoint import Store

SLICE = 2048  # probes scored between two savings

METHOD = "score"
Score = Callable[[Sequence[Probe]], list[ProbeScore]]


@dataclass(frozen=True, kw_only=True)
class ScoreRequest:
    """What the user asks for."""

    model: str = "smollm2-135m"
    adapter: Path | None = None
    benchmark: str = "lama-ckl-mini"
    limit: int | None = None
    device: str = "cpu"
    dtype: Dtype = "float32"
    attention: str | None = None
    trust_remote_code: bool = False
    allow_pickle: bool = False
    methods_dir: Path | None = None
    retain: Retain | None = None
    backend: str = "transformers"  # or vllm
    vllm: Mapping[str, Any] = field(default_factory=dict)  # its engine's arguments


@dataclass(frozen=True, kw_only=True)
class ScorePlan:
    """A request with everything resolved and checked, no weight loaded yet."""

    spec: Spec
    subject: Subject
    benchmark: Benchmark
    device: str
    attention: str = ""
    retain: Retain | None = None
    engine: Engine | None = None  # where vLLM scores


def plan_score(request: ScoreRequest) -> ScorePlan:
    """Resolve a request: every mistake that a user can make is found here. Raises UserError.

    The spec says what was scored: the base model with its revision, and by their hashes the adapter or the folder of
    a run. It has no epochs (`Spec.scored_only`), and so no setting of training means anything in it.
    """
    _require_backend(request)
    if request.retain is not None:
        check(request.retain)
    benchmark = load_benchmark(request.benchmark)
    loading = Loading(
        device=request.device,
        dtype=request.dtype,
        attention=request.attention,
        trust_remote_code=request.trust_remote_code,
        allow_pickle=request.allow_pickle,
        methods_dir=request.methods_dir,
    )
    subject = find_subject(request.model, request.adapter, loading)
    require_fit(texts_of_probes(benchmark, request.limit), subject.base)
    engine = _engine(request, subject)
    given = dict(subject.given) | ({"backend": "vllm", **telling(request.vllm)} if engine else {})
    spec = Spec(
        method=METHOD + (f"({','.join(f'{name}={value}' for name, value in given.items())})" if given else ""),
        hyperparameters={METHOD: given},
        benchmark=benchmark.name,
        benchmark_kind=benchmark.kind,
        benchmark_hash=benchmark.hash,
        model=subject.name,
        model_revision=subject.revision,
        seed=0,
        epochs=0,
        batch_size=0,
        learning_rate=0.0,
        max_tokens=0,
        limit=request.limit,
        inputs=dict(subject.inputs),
        tokenizer_hash=subject.base.tokenizer_hash,
        dtype=request.dtype,
    )
    return ScorePlan(
        spec=spec,
        subject=subject,
        benchmark=benchmark,
        device=request.device,
        attention=request.attention or "",
        retain=request.retain,
        engine=engine,
    )


def plan_scores(request: ScoreRequest, adapters: Sequence[Path]) -> list[ScorePlan]:
    """A plan for each of several adapters over one model; vLLM then scores them all with one engine.

    Raises UserError, for one that is given twice too.
    """
    given: dict[Path, Path] = {}
    for adapter in adapters:
        if given.setdefault(adapter.resolve(), adapter) is not adapter:
            raise UserError(f"--adapter {adapter} is given twice; give it once")
    plans = [plan_score(replace(request, adapter=adapter)) for adapter in adapters]
    engines = [plan.engine for plan in plans if plan.engine is not None]
    if not engines:
        return plans
    engine = replace(engines[0], adapters=tuple(chain(*(one.adapters for one in engines))))
    return [replace(plan, engine=engine) for plan in plans]


def _require_backend(request: ScoreRequest) -> None:
    require_backend(request.backend, request.vllm)
    if request.backend == "vllm" and (request.retain is not None or request.attention is not None):
        given = "--retain" if request.retain is not None else "--attention"
        raise UserError(f"{given} belongs to --backend transformers; leave it out, or score without vLLM")


def _engine(request: ScoreRequest, subject: Subject) -> Engine | None:
    """What vLLM is asked for, where it is to score; UserError where it cannot."""
    if request.backend != "vllm":
        return None
    if subject.kind == "kept" or subject.held:
        what = f"its base model is held in {subject.held}" if subject.held else "only its method can build it"
        raise UserError(f"{subject.folder} cannot be scored by vLLM: {what}; --backend transformers scores it")
    adapter = subject.folder if subject.kind == "adapter" else None
    base = subject.base
    if adapter is not None and subject.below is not None:
        require_adapter(adapter)
        below = subject.below  # the engine puts the adapter over it
        base = replace(base, load=below.load, where=below.where, commit=below.commit)
    return Engine(
        base=base,
        dtype=request.dtype,
        adapters=() if adapter is None else (adapter,),
        options=request.vllm,
        trust_remote_code=request.trust_remote_code,
    )


def score_model(plan: ScorePlan, store: Store | None = None, running: Running | None = None) -> Record:
    """Score a plan's model on the probe sets of every stage; with a `store` what is scored is kept as it goes on.

    An engine of vLLM is one that is `running`, where that is given, and is left for the next plan of `plan_scores`.
    Raises CklError where there is not enough memory, UserError where the weights cannot be read.
    """
    settle(plan.device)
    surroundings = environment(plan.device, **asdict(Sizes(attention=plan.attention)))
    clock = Clock()
    sets = [
        {name: list(islice(rows, plan.spec.limit)) for name, rows in stage.probes.items()}
        for stage in plan.benchmark.stages
    ]
    flat = list(chain(*(chain(*own.values()) for own in sets)))
    retained: dict[str, dict[str, Retained]] = {}
    try:
        with precision(plan.device, plan.spec.dtype), ExitStack() as ending:
            shown = ending.enter_context(line(" ".join(("score", plan.spec.model, *plan.subject.given.values()))))
            if plan.engine is not None:
                with clock.phase("load"):
                    held = ending.enter_context(Running()) if running is None else running
                    scorer = held.scorer(plan.engine, _longest(plan, flat))
                over = plan.subject.folder if plan.subject.kind == "adapter" else None
                scores = _in_slices(flat, partial(scorer, adapter=over), clock, store, shown)
                parameters = _parameters(plan.subject.base.outline())
            else:
                with clock.phase("load"):
                    model = plan.subject.load()
                scores = _in_slices(
                    flat, partial(score_probes, model, plan.subject.base.tokenizer), clock, store, shown
                )
                parameters = _parameters(model)
                retained = _retained(plan, model) if plan.retain is not None else {}
    except Exception as error:
        if not out_of_memory(error):
            raise
        raise CklError(OUT_OF_MEMORY) from error
    return Record(
        run_id=plan.spec.run_id,
        status="done",
        spec=plan.spec,
        environment=surroundings,
        cost=Cost(
            seconds={name: round(value, 3) for name, value in clock.seconds.items()},
            train_tokens=0,
            train_tokens_per_second=0.0,
            peak_memory_bytes=peak_memory(plan.device),
            trainable_parameters=0,
            total_parameters=parameters,
        ),
        stages=list(_stages(plan, sets, iter(scores))),
        retained=retained,
    )


def _in_slices(
    probes: Sequence[Probe], score: Score, clock: Clock, store: Store | None, shown: Line
) -> list[ProbeScore]:
    """The scores of all probes, in their order; those of finished slices are not made again after a stop."""
    saved = store.load() if store is not None else None
    done = [ProbeScore(**one) for one in saved["scores"]] if saved is not None else []
    shown.begin(len(probes), len(done))
    for begin in range(len(done), len(probes), SLICE):
        rows = probes[begin : begin + SLICE]
        with clock.phase("score"):
            done += score(rows)
        shown.advance(len(rows))
        if store is not None and len(done) < len(probes):
            store.save({"scores": [asdict(one) for one in done]})
    return done


def _longest(plan: ScorePlan, probes: Sequence[Probe]) -> int:
    return max(len(encode_probe(plan.subject.base.tokenizer, probe).ids) for probe in probes)


def _parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _stages(plan: ScorePlan, sets: Sequence[ProbeSets], scores: Iterator[ProbeScore]) -> Iterator[StageScores]:
    for stage, own in zip(plan.benchmark.stages, sets, strict=True):
        found = [next(scores) for rows in own.values() for _ in rows]
        yield StageScores(
            name=stage.name,
            documents=0,
            probe_ids={name: [probe.id for probe in rows] for name, rows in own.items()},
            epochs=[EpochScores(epoch=0, train_loss=None, sets=in_sets(found, own))],
        )


def _retained(plan: ScorePlan, model: nn.Module) -> dict[str, dict[str, Retained]]:
    """Scores on other tasks, beside those of the base model where it is another one that is here."""
    assert plan.retain is not None
    after = measured(model, plan.subject.base.tokenizer, plan.retain)
    below = plan.subject.below
    return beside(measured_before(below, plan.retain, plan.spec.dtype) if below is not None else after, after)
