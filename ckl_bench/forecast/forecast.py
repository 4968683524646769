"""A request -> what its run needs: memory, tokens, time by class of device, the micro-batch that fits, φ's training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ckl_bench.benchmarks.format import Benchmark, load_benchmark
from ckl_bench.errors import UserError
from ckl_bench.forecast.memory import Memory, Setting, documents_that_fit, memory_of
from ckl_bench.forecast.operations import operations_of, seconds_of
from ckl_bench.forecast.shape import Shape, shape_of
from ckl_bench.forecast.tokens import BYTES_A_TOKEN, Tokens, count_tokens, lengths
from ckl_bench.learning.run import target_of
from ckl_bench.learning.sizes import CPU_TOKENS, GPU_SHARE, GPU_TOKEN, MOST_SCORED, SCORED, UNREAD
from ckl_bench.method import Extent, Method, Needs, hooks_of
from ckl_bench.models.sketch import Sketch, sketch_model
from ckl_bench.spec import Dtype
from ckl_bench.stacks.stack import Stack, make_stack


@dataclass(frozen=True, kw_only=True)
class ForecastRequest:
    """What is to be run, as in `RunRequest`, and where."""

    method: str
    benchmark: str = "lama-ckl-mini"
    model: str = "smollm2-135m"
    epochs: int | None = None
    batch_size: int | None = None
    max_tokens: int = 512
    limit: int | None = None
    settings: Sequence[str] = ()
    methods_dir: Path | None = None
    on_gpu: bool = False
    dtype: Dtype = "float32"
    micro_batch: int | None = None
    checkpoint_activations: bool = False
    attention: str | None = None
    trust_remote_code: bool = False
    memory: int = 0  # bytes of the device


@dataclass(frozen=True, kw_only=True)
class Preparing:
    """A training before the run (TAALM's φ), with its default settings."""

    needed: bool
    why: str
    documents: float
    tokens: int
    memory: int  # bytes, at its fullest
    seconds: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a run needs; bytes and seconds."""

    method: str
    benchmark: str
    model: str
    on_gpu: bool
    dtype: str
    parameters: int
    trained: int
    memory: Memory
    tokens: Tokens
    operations: float  # of the whole run
    seconds: Mapping[str, float]  # by class of device
    available: int  # bytes of the device
    fits: bool
    micro_batch: int  # documents at once that fit; 0 where not even one does
    with_checkpoints: int  # the same with --checkpoint-activations
    preparing: Preparing | None
    notes: Sequence[str]

    def as_json(self) -> dict[str, Any]:
        """Everything, for machines."""
        memory = {**asdict(self.memory), "peak": self.memory.peak}
        return {"schema": 1, **asdict(self), "memory": memory}


def forecast(request: ForecastRequest) -> Forecast:
    """What a run would need, by arithmetic alone; of the model only the configuration is read. Raises UserError.

    Operations: 2 a weight and token going forward; going back 2 more for what gradients pass through, and 2 more for
    what trains. So 4 N a token over N frozen weights and 6 A for A weights of adapters, 6 N where all train; N are the
    weights in matrices that a token meets (of a mixture, of the experts that it asks), the head among them. Checkpoints
    cost one more forward pass. Scoring is 2 N a token of prompts, before the first epoch and after each, of later
    stages once before, of earlier ones again after each stage. Memory: see `memory_of` and `shape_of`.
    """
    stack = make_stack(request.method, request.settings, request.methods_dir)
    benchmark = load_benchmark(request.benchmark)
    sketch = sketch_model(request.model, trust_remote_code=request.trust_remote_code)
    shape = shape_of(stack, sketch, request.dtype)
    defaults = benchmark.manifest["defaults"]
    epochs = request.epochs or int(defaults["epochs"])
    batch_size = request.batch_size or int(defaults["batch_size"])
    documents, prompts, longest, estimated = count_tokens(benchmark, sketch, request.max_tokens, request.limit)
    extent = Extent(
        trained=shape.trained,
        base_bytes=0 if shape.shared else 4 * shape.base,
        width=shape.width,
        inputs_and_outputs=shape.inputs_and_outputs,
        stage_tokens=max(documents, default=0),
        epochs=epochs,
        pairs=len(benchmark.attention),
    )
    needs, notes = _needs(stack, extent)
    notes = [*([shape.note] if shape.note else []), *notes]
    if estimated:
        notes.append(f"{sketch.name}'s tokenizer is not on this machine: a token is counted as {BYTES_A_TOKEN} bytes")
    at_once = _at_once(shape, request, longest, batch_size, 1 if stack.weighs_tokens else UNREAD)
    setting = Setting(
        on_gpu=request.on_gpu,
        dtype=request.dtype,
        longest=longest,
        at_once=at_once,
        checkpoints=request.checkpoint_activations,
        eager=request.attention == "eager",
        trains=stack.trains,
        stages=len(documents),
        scored=_scored(shape, request, max(prompts, default=0)),
    )
    memory = memory_of(shape, needs, setting)
    in_epoch = round(sum(documents) * (needs.documents + needs.beside))
    tokens = Tokens(
        estimated=estimated,
        longest=longest,
        stages=documents,
        prompts=prompts,
        epoch=in_epoch,
        all=in_epoch * epochs * stack.trains,
    )
    operations = operations_of(shape, needs, setting, tokens, epochs, request.limit)
    room = request.memory
    fits = [
        min(documents_that_fit(shape, needs, replace(setting, checkpoints=checkpoints), room), batch_size)
        for checkpoints in (request.checkpoint_activations, True)
    ]
    return Forecast(
        method=stack.label,
        benchmark=benchmark.name,
        model=sketch.name,
        on_gpu=request.on_gpu,
        dtype=request.dtype,
        parameters=shape.base + shape.added,
        trained=shape.trained,
        memory=memory,
        tokens=tokens,
        operations=operations,
        seconds=seconds_of(operations, request.dtype),
        available=room,
        fits=memory.peak <= room,
        micro_batch=fits[0],
        with_checkpoints=fits[1],
        preparing=_preparing(stack, benchmark, sketch, shape, needs, request),
        notes=notes,
    )


def _needs(stack: Stack, extent: Extent) -> tuple[Needs, list[str]]:
    """What the stack's parts say of themselves, together, and a note for each that says nothing."""
    total, notes = Needs(), []
    for name, method in stack.parts.items():
        own = method.needs(extent)
        silent = [hook for hook in hooks_of(type(method)) if hook != "build"]
        if own is None and silent:
            notes.append(f"what {name} holds or computes in {', '.join(silent)} is not known and not counted")
        if own is None:
            continue
        memory = dict(total.memory)
        for part, size in own.memory.items():
            memory[part] = memory.get(part, 0) + size
        total = Needs(
            memory=memory,
            passes=total.passes + own.passes,
            documents=total.documents * own.documents,
            beside=total.beside + own.beside,
            whole_logits=max(total.whole_logits, own.whole_logits),
            trunk_once=total.trunk_once or own.trunk_once,
            training=own.training or total.training,
        )
    return total, notes


def _at_once(shape: Shape, request: ForecastRequest, longest: int, batch_size: int, times: int) -> int:
    """Tokens of documents at once, as `learning.sizes` has it: so many times what fits, at most a whole batch."""
    whole = batch_size * longest
    if request.micro_batch is not None:
        return min(request.micro_batch * longest, whole)
    if not request.on_gpu:
        return max(longest, min(CPU_TOKENS * times, whole))
    return max(longest, min(_that_fit(shape, request, shape.layers) * times, whole))


def _scored(shape: Shape, request: ForecastRequest, prompts: int) -> int:
    """Tokens of prompts that go through the model at once, as `learning.sizes` has it, at most all of a stage."""
    return max(SCORED, min(_that_fit(shape, request, 1), MOST_SCORED, prompts)) if request.on_gpu else SCORED


def _that_fit(shape: Shape, request: ForecastRequest, layers: int) -> int:
    """Tokens of which so many layers' tensors fill the GPU's memory as far as it is to be filled."""
    room = request.memory - shape.base_bytes
    return int(room * GPU_SHARE / max(1, layers * shape.width * GPU_TOKEN))


def _preparing(
    stack: Stack, benchmark: Benchmark, sketch: Sketch, shape: Shape, needs: Needs, request: ForecastRequest
) -> Preparing | None:
    """What has to be trained before this run, where a part of the stack prepares something."""
    if not any(type(method).prepare is not Method.prepare for method in stack.parts.values()):
        return None
    target = target_of(request.benchmark, benchmark, request.model, sketch)
    needed, why = False, ""
    try:
        why = ", ".join(f"{name} is {path.name}" for name, path in stack.inputs(target).items())
    except UserError as error:
        needed, why = True, str(error)
    training = needs.training
    if training is None:
        return Preparing(needed=needed, why=why, documents=0, tokens=0, memory=0, seconds={})
    each = lengths(sketch, (row.text for row in benchmark.attention), request.max_tokens) or [0]
    tokens = round(training.documents * sum(each) / len(each))
    plain = memory_of(
        shape,
        Needs(memory={"learner and φ": training.bytes + 16 * training.trained}, whole_logits=4),
        Setting(
            on_gpu=request.on_gpu,
            dtype="float32",
            longest=max(each),
            at_once=max(each),
            checkpoints=False,
            eager=False,
            trains=True,
            stages=1,
        ),
    )
    operations = training.passes * 2.0 * (shape.applied + shape.head) * tokens
    return Preparing(
        needed=needed,
        why=why,
        documents=training.documents,
        tokens=tokens,
        memory=max(plain.phases["before a stage"], plain.phases["loading"]),
        seconds=seconds_of(operations, "float32"),
    )
