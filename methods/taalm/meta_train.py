"""Meta-train φ: pairs of document and task -> the φ whose weights make the task best answered (paper, section 3.2).

Each document has its own learner, which starts from the base model with fresh LoRA. φ is kept where it does best on
held-out documents. A run that was stopped goes on from its last checkpoint when the same command is given again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from ckl_bench.benchmarks.format import AttentionDocument, Benchmark, Probe
from ckl_bench.encode import EncodedDocument, Tokenizer, collate, encode_documents, object_tokens
from ckl_bench.errors import CklError, UserError
from ckl_bench.models import BaseModel, share_trunk
from ckl_bench.progress import bar, log
from ckl_bench.score import encode_probe

from ..qlora import load_nf4
from .attention import Scale, Shape, TrainAttention, save_attention
from .checkpoint import Checkpoint
from .meta_gradient import Adam, Form, Parameters, Task, learn, meta_gradient, supported_form, task_loss


@dataclass(frozen=True, kw_only=True)
class MetaTraining:
    """How φ is trained; defaults are what was found to work on a 135M model, the paper's values stand behind."""

    steps: PositiveInt = 60  # meta-steps of AdamW on φ
    batch_size: PositiveInt = 8  # documents whose gradients are averaged in a step (paper: 16)
    lr: PositiveFloat = 1e-3  # β, φ's learning rate (paper: 2e-4)
    inner_lr: PositiveFloat = 2e-4  # α, the learner's (paper: 2e-4)
    inner_r: PositiveInt = 16  # rank of the learner's LoRA (paper: 64)
    inner_alpha: float = 16.0
    nf4: bool = False  # the learner's frozen base model in NF4, as qlora has it (the paper's choice)
    dummy_steps: NonNegativeInt = 1  # plain steps before the differentiated one (paper: 1)
    r: PositiveInt = 8  # rank of φ's LoRA
    alpha: float = 16.0
    bias: float = 0.0  # of φ's head (released code: 4)
    scale: Scale = "max"  # "max": weights divided by the document's largest; "plain": as sigmoid gives them
    held_out: PositiveInt = 16  # documents that only validate
    validate_every: PositiveInt = 15  # steps
    max_tokens: PositiveInt = 512
    limit: NonNegativeInt = 0  # use only the first N documents; 0 takes all


@dataclass(frozen=True, kw_only=True)
class Example:
    """A document to learn and the task that asks for its fact."""

    document: EncodedDocument
    task: Task
    on_object: Tensor  # (n-1,) bool: which predicted tokens are the fact's object


def make_examples(
    tokenizer: Tokenizer, rows: Sequence[AttentionDocument], max_tokens: int, device: str
) -> list[Example]:
    """Tokenised pairs (D, T)."""
    prompts = {row.id: row for row in rows}
    examples = []
    for document in encode_documents(tokenizer, rows, max_tokens):
        row = prompts[document.id]
        probe = encode_probe(tokenizer, Probe(id=row.id, prompt=row.prompt, object=row.fact.object))
        task = Task(ids=torch.tensor(probe.ids, device=device), objects=probe.objects)
        examples.append(Example(document=document, task=task, on_object=object_tokens(document)[1:] > 0))
    return examples


def make_learner(base: nn.Module, r: int, alpha: float, seed: int) -> tuple[nn.Module, dict[str, Tensor]]:
    """The base model with fresh LoRA, and the starting values θ of the parameters that learn."""
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LoraConfig(r=r, lora_alpha=alpha, target_modules="all-linear", bias="none")
        learner: nn.Module = get_peft_model(base, config)
    theta = {n: p.detach().clone() for n, p in learner.named_parameters() if p.requires_grad}
    return learner.requires_grad_(False).eval(), theta


def _weights(phi: TrainAttention, example: Example, device: str) -> Tensor:
    batch = collate([example.document], device)
    return phi(batch.ids, batch.mask)[0]  # type: ignore[no-any-return]


def validate(
    learner: nn.Module,
    theta: Parameters,
    examples: Sequence[Example],
    weigh: Callable[[Example], Tensor],
    settings: MetaTraining,
    device: str,
) -> dict[str, float]:
    """Mean task loss after learning each document with the given weights, and mean weight on and off the object."""
    losses, on, off = [], [], []
    adam = Adam(lr=settings.inner_lr)
    for example in examples:
        weights = weigh(example).detach().to(device)
        ids = torch.tensor(example.document.ids, device=device)
        after, _ = learn(learner, theta, ids, weights, steps=settings.dummy_steps + 1, adam=adam)
        with torch.no_grad():
            losses.append(task_loss(learner, after, example.task).item())
        on += weights.cpu()[example.on_object].tolist()
        off += weights.cpu()[~example.on_object].tolist()
    return {"task_nll": _mean(losses), "weight_on_object": _mean(on), "weight_elsewhere": _mean(off)}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(len(values), 1)


def meta_step(
    phi: TrainAttention,
    learner: nn.Module,
    theta: Parameters,
    batch: Sequence[Example],
    settings: MetaTraining,
    form: Form,
    device: str,
    advance: Callable[[int], None] = lambda amount: None,
) -> dict[str, float]:
    """Accumulate φ's gradient over a batch of documents (averaged), and say what was seen."""
    losses, on, off = [], [], []
    for example in batch:
        with torch.no_grad():
            weights = _weights(phi, example, device)  # (n-1,)
        ids = torch.tensor(example.document.ids, device=device)
        result = meta_gradient(
            learner,
            theta,
            ids,
            weights,
            example.task,
            form=form,
            dummy_steps=settings.dummy_steps,
            adam=Adam(lr=settings.inner_lr),
        )
        # φ is read again, now with its graph: one more forward pass, but the graph never stands beside the learner's.
        _weights(phi, example, device).backward(result.gradient.to(weights) / len(batch))  # type: ignore[no-untyped-call]
        losses.append(result.task_loss)
        seen = weights.cpu()
        on += seen[example.on_object].tolist()
        off += seen[~example.on_object].tolist()
        advance(1)
    return {"task_nll": _mean(losses), "weight_on_object": _mean(on), "weight_elsewhere": _mean(off)}


def train_attention(
    *, benchmark: Benchmark, base: BaseModel, out: Path, device: str, seed: int, settings: MetaTraining, fresh: bool
) -> None:
    """Train φ on the benchmark's attention set and write `out` (safetensors) with a JSON of its curve beside it.

    Raises UserError for a benchmark without an attention set or with too few documents.
    """
    if out.suffix != ".safetensors":
        raise UserError(f"--out {out}: expected a name that ends in .safetensors")
    rows = list(benchmark.attention)[: settings.limit or None]
    if len(rows) <= settings.held_out:
        raise UserError(
            f"benchmark '{benchmark.name}' has {len(rows)} attention documents; more than {settings.held_out} "
            "(held_out) are needed; build it from a source with more facts, or --set held_out=N"
        )
    random.Random(seed).shuffle(rows)
    examples = make_examples(base.tokenizer, rows, settings.max_tokens, device)
    held_out, training = examples[: settings.held_out], examples[settings.held_out :]

    torch.manual_seed(seed)
    trunk_of_learner = load_nf4(base.load) if settings.nf4 else base.load()
    learner, theta = make_learner(trunk_of_learner, settings.inner_r, settings.inner_alpha, seed)
    shape = Shape(r=settings.r, alpha=settings.alpha, bias=settings.bias, scale=settings.scale)
    trunk = share_trunk(learner)
    phi = TrainAttention(trunk if trunk is not None else base.load(), shape, seed)
    own = phi.trained()
    optimizer = torch.optim.AdamW(own.values(), lr=settings.lr, weight_decay=0.0)
    form = supported_form(learner, theta, torch.tensor(training[0].document.ids, device=device))
    identity = {
        "model": base.name,
        "model_revision": base.revision,
        "tokenizer_hash": base.tokenizer_hash,
        "benchmark": benchmark.name,
        "benchmark_hash": benchmark.hash,
        "data_sha256": benchmark.manifest["files"]["attention/train.jsonl"],
        "seed": seed,
        "settings": asdict(settings),
        "shape": asdict(shape),
        "gradient": form,
    }
    checkpoint = Checkpoint(out, identity)
    state = None if fresh else checkpoint.load(own, optimizer)
    if state is None:
        baselines = {
            "uniform": validate(learner, theta, held_out, lambda e: torch.ones(len(e.on_object)), settings, device),
            "object only": validate(learner, theta, held_out, lambda e: e.on_object.float(), settings, device),
        }
        first = validate(learner, theta, held_out, lambda e: _weights(phi, e, device), settings, device)
        state = {
            "step": 0,
            "baselines": {name: scores["task_nll"] for name, scores in baselines.items()},
            "curve": [{"step": 0, "held_out": first}],
            "best": first["task_nll"],
        }
        log("held-out task NLL: " + ", ".join(f"{k} weights {v:.3f}" for k, v in state["baselines"].items()))
        checkpoint.save(state, own, optimizer, best=True)
    else:
        log(f"going on from step {state['step']} of {settings.steps}")

    with bar("meta-training φ", settings.steps * settings.batch_size, "documents") as advance:
        advance(state["step"] * settings.batch_size)
        for step in range(state["step"] + 1, settings.steps + 1):
            batch = _batch(training, settings.batch_size, step, seed)
            optimizer.zero_grad(set_to_none=True)
            seen = meta_step(phi, learner, theta, batch, settings, form, device, advance)
            norm = torch.stack([p.grad.norm() for p in own.values() if p.grad is not None]).norm().item()
            if not norm < float("inf"):
                names = ", ".join(example.document.id for example in batch)
                raise CklError(f"φ's gradient is not finite at step {step}; documents of the batch: {names}")
            optimizer.step()
            entry: dict[str, Any] = {"step": step, "train": seen, "gradient_norm": norm}
            state["curve"].append(entry)
            state["step"] = step
            if step % settings.validate_every == 0 or step == settings.steps:
                score = validate(learner, theta, held_out, lambda e: _weights(phi, e, device), settings, device)
                entry["held_out"] = score
                better = score["task_nll"] < state["best"]
                state["best"] = min(state["best"], score["task_nll"])
                log(
                    f"step {step}: held-out task NLL {score['task_nll']:.3f}, mean weight on the object "
                    f"{score['weight_on_object']:.3f}, elsewhere {score['weight_elsewhere']:.3f}"
                )
                checkpoint.save(state, own, optimizer, best=better)

    about = {**identity, "baselines": state["baselines"], "best_task_nll": state["best"], "curve": state["curve"]}
    save_attention(out, checkpoint.best(), about)
    checkpoint.remove()


def _batch(examples: Sequence[Example], size: int, step: int, seed: int) -> list[Example]:
    """The documents of a step (from 1): slices of a fresh shuffle per pass; a pure function of its arguments."""
    per_pass = max(len(examples) // size, 1)
    turn, place = divmod(step - 1, per_pass)
    order = list(range(len(examples)))
    random.Random(f"{seed}:{turn}").shuffle(order)
    return [examples[i] for i in order[place * size : (place + 1) * size]]
