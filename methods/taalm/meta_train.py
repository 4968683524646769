"""One step of meta-training φ: documents with their tasks -> φ's gradient (paper, section 3.2), and how well φ does.

Each document has its own learner, which starts from the base model with fresh LoRA.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from ckl_bench import ranks, shares
from ckl_bench.benchmarks.format import AttentionDocument, Probe
from ckl_bench.encode import EncodedDocument, Tokenizer, collate, encode_documents, object_tokens
from ckl_bench.method import Extent, Training
from ckl_bench.scoring.engine import encode_probe

from ..lora.low_rank import low_rank
from .attention import Scale, TrainAttention
from .meta_gradient import Adam, Form, Parameters, Task, learn, meta_gradient, task_loss


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


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was seen of documents: the task's loss after learning each, the weights on the object's tokens and off."""

    losses: list[float] = field(default_factory=list)
    on: list[float] = field(default_factory=list)
    off: list[float] = field(default_factory=list)

    def add(self, loss: float, weights: Tensor, on_object: Tensor) -> None:
        """One document more, with the weights (n-1,) of its tokens."""
        self.losses.append(loss)
        self.on.extend(weights[on_object].tolist())
        self.off.extend(weights[~on_object].tolist())

    def means(self) -> dict[str, float]:
        """The means, over what all processes have seen."""
        each = ranks.gather(self)
        return {
            "task_nll": _mean([loss for seen in each for loss in seen.losses]),
            "weight_on_object": _mean([weight for seen in each for weight in seen.on]),
            "weight_elsewhere": _mean([weight for seen in each for weight in seen.off]),
        }


def own_share(examples: Sequence[Example]) -> list[Example]:
    """Of documents that all processes have, those that are this one's to read: as many tokens as the others'."""
    return [examples[i] for i in shares.share([len(example.document.ids) for example in examples])]


def expected(extent: Extent) -> Training:
    """What a training with the default settings needs.

    For a document the learner's steps take a forward and a backward pass each, and two more forward passes find the
    directional derivative; φ reads it twice and goes back once. A backward pass over frozen weights costs as much as a
    forward pass. The learner has its adapters, their moments and a gradient twice over, and the step's slope.
    """
    default = MetaTraining()
    steps = default.dummy_steps + 1
    looks = 3 + default.steps // default.validate_every  # two baselines, φ as it starts, and then now and again
    of_learner = 2.0 * steps
    return Training(
        documents=default.steps * default.batch_size + default.held_out * looks * (of_learner / (of_learner + 5)),
        passes=of_learner + 5,
        trained=default.r * extent.inputs_and_outputs,
        bytes=4 * 8 * default.inner_r * extent.inputs_and_outputs,
    )


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
    from peft import get_peft_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        learner: nn.Module = get_peft_model(base, low_rank(base, r=r, alpha=alpha))
    theta = {n: p.detach().clone() for n, p in learner.named_parameters() if p.requires_grad}
    return learner.requires_grad_(False).eval(), theta


def token_weights(phi: TrainAttention, example: Example, device: str) -> Tensor:
    """(n-1,) weights that φ gives the tokens of one document but the first."""
    batch = collate([example.document], device)
    return phi(batch.ids, batch.mask)[0]  # type: ignore[no-any-return]


def validate(
    learner: nn.Module,
    theta: Parameters,
    examples: Sequence[Example],
    weigh: Callable[[Example], Tensor],
    settings: MetaTraining,
    device: str,
) -> Seen:
    """The task's loss after learning each document with the given weights."""
    seen = Seen()
    adam = Adam(lr=settings.inner_lr)
    for example in examples:
        weights = weigh(example).detach().to(device)
        ids = torch.tensor(example.document.ids, device=device)
        after, _ = learn(learner, theta, ids, weights, steps=settings.dummy_steps + 1, adam=adam)
        with torch.no_grad():
            seen.add(task_loss(learner, after, example.task).item(), weights.cpu(), example.on_object)
    return seen


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
    documents: int | None = None,
) -> Seen:
    """Accumulate φ's gradient over documents of a batch, and say what was seen.

    The gradient is of the mean over the batch's `documents`, by default those that are given.
    """
    found, of = Seen(), documents or len(batch)
    for example in batch:
        with torch.no_grad():
            weights = token_weights(phi, example, device)  # (n-1,)
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
        token_weights(phi, example, device).backward(result.gradient.to(weights) / of)  # type: ignore[no-untyped-call]
        found.add(result.task_loss, weights.cpu(), example.on_object)
        advance(1)
    return found


def batch_of(examples: Sequence[Example], size: int, step: int, seed: int) -> list[Example]:
    """The documents of a step (from 1): slices of a fresh shuffle per pass; a pure function of its arguments."""
    per_pass = max(len(examples) // size, 1)
    turn, place = divmod(step - 1, per_pass)
    order = list(range(len(examples)))
    random.Random(f"{seed}:{turn}").shuffle(order)
    return [examples[i] for i in order[place * size : (place + 1) * size]]
