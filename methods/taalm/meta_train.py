"""One step of meta-training φ: documents with their tasks -> φ's gradient (paper, section 3.2), and how well φ does.

Each document has its own learner, which starts from the base model with fresh LoRA.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from ckl_bench import ranks, shares
from ckl_bench.benchmarks.format import AttentionDocument, Probe
from ckl_bench.encode import EncodedDocument, Tokenizer, by_length, collate, encode_documents, object_tokens
from ckl_bench.method import Extent, Training
from ckl_bench.scoring.engine import encode_probe

from ..lora.low_rank import low_rank
from .attention import Scale, TrainAttention
from .learners import Learners
from .meta_gradient import Adam, Form, learn, meta_gradients, task_losses
from .texts import Task, documents, questions

TOKENS = 256  # of documents that go together: what is kept for their gradients grows with them


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


Weigh = Callable[[Sequence[Example]], Sequence[Tensor]]  # each document's weights (n-1,)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was seen of documents: the task's loss after learning each, the weights on the object's tokens and off."""

    losses: list[float] = field(default_factory=list)
    on: list[float] = field(default_factory=list)
    off: list[float] = field(default_factory=list)

    def add(self, group: Sequence[Example], losses: Sequence[float], weights: Sequence[Tensor]) -> None:
        """Some documents more, with each one's loss and the weights (n-1,) of its tokens."""
        self.losses.extend(losses)
        for example, w in zip(group, weights, strict=True):
            found = w.detach().cpu()
            self.on.extend(found[example.on_object].tolist())
            self.off.extend(found[~example.on_object].tolist())

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

    For a document the learner's steps take a forward and a backward pass each, one more finds the directional
    derivative, and φ takes one of each. A backward pass over frozen weights costs as much as a forward pass. A learner
    has its adapters, their moments and a gradient; φ's graph stands beside it.
    """
    default = MetaTraining()
    steps = default.dummy_steps + 1
    looks = 3 + default.steps // default.validate_every  # two baselines, φ as it starts, and then now and again
    of_learner = 2.0 * steps
    return Training(
        documents=default.steps * default.batch_size + default.held_out * looks * (of_learner / (of_learner + 3)),
        passes=of_learner + 3,
        trained=default.r * extent.inputs_and_outputs,
        bytes=4 * 8 * default.inner_r * extent.inputs_and_outputs,
    )


def make_examples(tokenizer: Tokenizer, rows: Sequence[AttentionDocument], max_tokens: int) -> list[Example]:
    """Tokenised pairs (D, T)."""
    prompts = {row.id: row for row in rows}
    examples = []
    for document in encode_documents(tokenizer, rows, max_tokens):
        row = prompts[document.id]
        probe = encode_probe(tokenizer, Probe(id=row.id, prompt=row.prompt, object=row.fact.object))
        task = Task(ids=torch.tensor(probe.ids), objects=probe.objects)
        examples.append(Example(document=document, task=task, on_object=object_tokens(document)[1:] > 0))
    return examples


def make_learners(base: nn.Module, r: int, alpha: float, seed: int, **options: Any) -> Learners:
    """The base model with fresh LoRA, from which every document's learner starts; `options` are those of `Learners`."""
    from peft import get_peft_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Learners(get_peft_model(base, low_rank(base, r=r, alpha=alpha)), **options)


def token_weights(phi: TrainAttention, examples: Sequence[Example], device: str) -> list[Tensor]:
    """The weights (n-1,) that φ gives the tokens of each document but the first."""
    batch = collate([example.document for example in examples], device)
    found = phi(batch.ids, batch.mask)
    found = found.float() if found.dtype.itemsize < 4 else found
    return [row[: len(example.document.ids) - 1] for row, example in zip(found, examples, strict=True)]


def groups(examples: Sequence[Example], learners: Learners) -> Iterator[list[Example]]:
    """Documents that go through the models together: of similar length, where that can be."""
    lengths = [len(example.document.ids) for example in examples]
    # Where activations are computed again, a learner's numbers and moments are most of what a document takes.
    for places in by_length(lengths, TOKENS if learners.together and learners.keeps else 0):
        yield [examples[i] for i in places]


def validate(
    learners: Learners,
    examples: Sequence[Example],
    weigh: Weigh,
    settings: MetaTraining,
    device: str,
) -> Seen:
    """The task's loss after learning each document with the given weights."""
    seen = Seen()
    adam, at = Adam(lr=settings.inner_lr), torch.device(device)
    for group in groups(examples, learners):
        weights = [w.detach().to(device) for w in weigh(group)]
        texts = documents([example.document.ids for example in group], at)
        learned = learn(learners, texts, weights, steps=settings.dummy_steps + 1, adam=adam)
        losses = task_losses(learners, learned.numbers, questions([example.task for example in group], at))
        seen.add(group, losses, weights)
    return seen


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(len(values), 1)


def meta_step(
    phi: TrainAttention,
    learners: Learners,
    batch: Sequence[Example],
    settings: MetaTraining,
    form: Form,
    device: str,
    advance: Callable[[int], None] = lambda amount: None,
    documents_of_batch: int | None = None,
) -> Seen:
    """Accumulate φ's gradient over documents of a batch, and say what was seen.

    The gradient is of the mean over so many `documents_of_batch`, by default those that are given.
    """
    seen, at = Seen(), torch.device(device)
    for group in groups(batch, learners):
        weights = token_weights(phi, group, device)  # with φ's graph
        results = meta_gradients(
            learners,
            documents([example.document.ids for example in group], at),
            weights,
            questions([example.task for example in group], at),
            form=form,
            dummy_steps=settings.dummy_steps,
            adam=Adam(lr=settings.inner_lr),
        )
        share = learners.magnified / (documents_of_batch or len(batch))
        torch.autograd.backward(weights, [result.gradient.to(weights[0]) * share for result in results])
        seen.add(group, [result.task_loss for result in results], weights)
        advance(len(group))
    if learners.magnified != 1:
        for p in phi.trained().values():
            if p.grad is not None:
                p.grad.div_(learners.magnified)
    return seen


def batch_of(examples: Sequence[Example], size: int, step: int, seed: int) -> list[Example]:
    """The documents of a step (from 1): slices of a fresh shuffle per pass; a pure function of its arguments."""
    per_pass = max(len(examples) // size, 1)
    turn, place = divmod(step - 1, per_pass)
    order = list(range(len(examples)))
    random.Random(f"{seed}:{turn}").shuffle(order)
    return [examples[i] for i in order[place * size : (place + 1) * size]]
