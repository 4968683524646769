"""A run: request -> plan (everything resolved and checked, no weight loaded) -> record."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ckl_bench import ranks
from ckl_bench.benchmarks.format import Benchmark, load_benchmark
from ckl_bench.errors import OUT_OF_MEMORY, CklError, UserError, out_of_memory
from ckl_bench.events import RunDone, RunStopped, Watcher, Watchers
from ckl_bench.learning.environment import environment, settle
from ckl_bench.learning.fits import require_fit, texts_of_run
from ckl_bench.learning.keep import BEST_TOTAL, LAST, save_model
from ckl_bench.learning.planned import Learned, Plan
from ckl_bench.learning.retain import check
from ckl_bench.learning.shard import require_several
from ckl_bench.learning.sizes import Sizes
from ckl_bench.learning.stages import learn_stages
from ckl_bench.learning.tasks import Retain
from ckl_bench.learning.tripwire import check_rehearsal
from ckl_bench.method import RunTarget
from ckl_bench.models.base import BaseModel
from ckl_bench.models.find import find_model
from ckl_bench.models.sketch import Sketch
from ckl_bench.records import Record
from ckl_bench.spec import Dtype, Spec
from ckl_bench.stacks.stack import Stack, make_stack
from ckl_bench.storage.checkpoint import Keeper, Store
from ckl_bench.storage.files import sha256_file


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
    dtype: Dtype = "float32"
    micro_batch: int | None = None
    score_batch_tokens: int | None = None
    checkpoint_activations: bool = False
    attention: str | None = None
    shard: bool = False
    trust_remote_code: bool = False
    allow_pickle: bool = False
    retain: Retain | None = None


def target_of(named: str, benchmark: Benchmark, model: str, pinned: BaseModel | Sketch) -> RunTarget:
    """What a run of a benchmark and model, as the user names them, is about."""
    return RunTarget(
        benchmark=named,
        benchmark_hash=benchmark.hash,
        attention_sha256=benchmark.manifest["files"]["attention/train.jsonl"] if benchmark.attention else "",
        model=model,
        model_revision=pinned.revision,
        tokenizer_hash=pinned.tokenizer_hash,
        outline=pinned.outline,
    )


def plan_run(request: RunRequest) -> Plan:
    """Resolve a request: every mistake that a user can make is found here. Raises UserError."""
    if request.shard:
        require_several()
        if request.retain is not None:
            raise UserError("--shard leaves no process a whole model to ask other tasks with; leave out --retain")
    if request.retain is not None:
        check(request.retain)
    stack = make_stack(request.method, request.settings, request.methods_dir)
    benchmark = load_benchmark(request.benchmark)
    base = find_model(
        request.model,
        device="cpu" if request.shard else request.device,  # no device is to hold all of it
        trust_remote_code=request.trust_remote_code,
        allow_pickle=request.allow_pickle,
        dtype=request.dtype,
        attention=request.attention,
    )
    target = target_of(request.benchmark, benchmark, request.model, base)
    require_fit(texts_of_run(benchmark, request.max_tokens, request.limit), base)
    inputs = stack.inputs(target)
    defaults = benchmark.manifest["defaults"]
    rate = request.learning_rate
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
        learning_rate=_learning_rate(stack, defaults) if rate is None else rate,
        max_tokens=request.max_tokens,
        limit=request.limit,
        inputs={name: sha256_file(path) for name, path in inputs.items()} | dict(stack.plugins),
        tokenizer_hash=base.tokenizer_hash,
        dtype=request.dtype,
    )
    certified = [m.get("revision") for m in benchmark.manifest.get("pretest_models", [])]
    if stack.owners("stream") or stack.owners("penalty"):  # what may rehearse
        check_rehearsal(benchmark, request.limit)
    warnings = []
    silent = next((stage.name for stage in benchmark.stages if not stage.documents), None)
    if silent is not None and stack.trains:
        raise UserError(
            f"{benchmark.name}: stage '{silent}' has no documents, so that {stack.label} would learn nothing in it; "
            "--method none scores the model as it stands, or build the benchmark with documents"
        )
    if certified and base.revision not in certified:
        warnings.append(
            f"{benchmark.name} was pre-tested on other models than {base.name}: what {base.name} knows before training "
            "is measured at epoch 0, not certified"
        )
    warnings += [f"{name} is {path.name}" for name, path in inputs.items()]
    held = stack.owner("build").holds
    if certified and held and base.revision in certified:
        warnings.append(
            f"{benchmark.name} was pre-tested on {base.name} in float32 and runs on it in {held}: what that knows "
            "before training is measured at epoch 0, not certified"
        )
    if base.note:
        warnings.append(f"{base.name}: {base.note}")
    return Plan(
        spec=spec,
        stack=stack,
        benchmark=benchmark,
        base=base,
        inputs=inputs,
        device=request.device,
        warnings=warnings,
        retain=request.retain,
        sizes=Sizes(
            micro_batch=request.micro_batch,
            score_batch_tokens=request.score_batch_tokens,
            checkpoint_activations=request.checkpoint_activations,
            attention=request.attention or "",
            shard=request.shard,
        ),
    )


def _learning_rate(stack: Stack, defaults: Mapping[str, Any]) -> float:
    """The rate of a stack on a benchmark where none is given.

    The benchmark's `learning_rates` name stacks: of those whose parts are all in this one the longest counts, of two
    as long the first. Then comes what the stack's parts ask for, then the benchmark's `learning_rate`.
    """
    rates: Mapping[str, float] = defaults.get("learning_rates", {})
    ours = [name for name in rates if set(name.split("+")) <= set(stack.parts)]
    if ours:
        return float(rates[max(ours, key=lambda name: name.count("+"))])
    return float(defaults["learning_rate"]) if stack.learning_rate is None else stack.learning_rate


def plan_seeds(request: RunRequest, seeds: Sequence[int]) -> list[Plan]:
    """Plans that differ by their seed alone; benchmark and model are read once for all. Raises UserError."""
    first = plan_run(request)

    each = list(dict.fromkeys(seeds))

    def of(place: int, seed: int) -> Plan:
        stack = make_stack(request.method, request.settings, request.methods_dir)  # runs share no state of a plugin's
        spec = first.spec.model_copy(update={"seed": seed})
        return replace(first, spec=spec, stack=stack, place=f"seed {place}/{len(each)}")

    return [of(place, seed) for place, seed in enumerate(each, 1)]


def execute(
    plan: Plan,
    store: Store | None = None,
    save_to: Path | None = None,
    watchers: Sequence[Watcher] = (),
    keep: str = LAST,
) -> Record:
    """Run a plan to its end. A failure while it runs comes back as a record with status `failed`.

    With a `store` its state is saved as it goes on, and a run that was stopped goes on from there.
    With `save_to` the model that has learned is kept in a folder in there that has the run's id (`keep.save_model`):
    that of the last epoch, or with `keep` of the one with the best total.
    `watchers` are told what happens (see `ckl_bench.events`), last of all of the record.

    Sets torch's global random state from the spec's seed. Of several processes (`ckl_bench.ranks`) all get the record,
    the first keeps the model; `Lost` where one of them goes away.
    """
    ranks.require_same(plan.spec.run_id, "the run's id")
    settle(plan.device)
    surroundings = environment(plan.device, **asdict(plan.sizes))
    tell = Watchers(watchers)
    try:
        done = learn_stages(plan, Keeper(store), [tell], keep_best=save_to is not None and keep == BEST_TOTAL)
    except (UserError, ranks.Lost, KeyboardInterrupt):
        tell.run_stopped(RunStopped(spec=plan.spec))
        raise
    except Exception as error:  # a plugin's hooks run in there, and may raise anything
        if out_of_memory(error):
            reason = OUT_OF_MEMORY
        else:
            reason = str(error) if isinstance(error, CklError) else f"{type(error).__name__}: {error} {_place(error)}"
        record = Record(
            run_id=plan.spec.run_id, status="failed", error=reason, spec=plan.spec, environment=surroundings
        )
        tell.run_done(RunDone(record=record))
        return record
    record = Record(
        run_id=plan.spec.run_id,
        status="done",
        spec=plan.spec,
        environment=surroundings,
        cost=done.cost,
        before=done.before,
        stages=done.stages,
        told=done.told,
        retained=done.retained,
        weights_sha256=done.weights_sha256,
    )
    if save_to is not None:  # before there is a record: who is stopped in here goes on with the last steps
        ranks.from_first(partial(_keep, plan, done, record, save_to))
    tell.run_done(RunDone(record=record, model=done.model, tokenizer=plan.base.tokenizer, as_scored=done.as_scored))
    return record


def _keep(plan: Plan, done: Learned, record: Record, folder: Path) -> None:
    with done.to_keep() as epoch:
        save_model(done.model, plan, record, folder, epoch)


def _place(error: BaseException) -> str:
    """Where an error was raised: the last place outside installed libraries."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename] or frames
    return f"({own[-1].filename}:{own[-1].lineno})"
