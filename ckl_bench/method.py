"""A method: what is different about how the model learns. The core trains, scores and records.

A method is a frozen, keyword-only dataclass whose fields are its hyperparameters, each with a default. It overrides the
hooks it needs and inherits the neutral rest. A hook is a factory: it is given what it needs and returns a live object;
the method itself holds no state. A hook has at most one owner in a stack, save `penalty`, whose values are summed.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial, partialmethod
from pathlib import Path
from types import FunctionType, MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from ckl_bench.benchmarks.format import AttentionDocument
from ckl_bench.encode import Batch, EncodedDocument, Tokenizer
from ckl_bench.records import Preparation
from ckl_bench.storage.weights import load_weights, save_weights

if TYPE_CHECKING:  # listing methods, and making tables of them, needs no torch
    import torch
    from torch import Tensor, nn

Weigh = Callable[[Batch, "Tensor"], "Tensor"]
OfWeights = Callable[[], "Tensor"]
OfStep = Callable[["Step"], "Tensor"]
Penalty = OfWeights | OfStep
HOOKS = ("weigh", "build", "stream", "penalty", "optimizer", "scoring")
SUMMED = frozenset({"penalty"})


@dataclass(frozen=True, kw_only=True)
class RunTarget:
    """What a run is about, known before any weight is loaded."""

    benchmark: str
    benchmark_hash: str
    attention_sha256: str  # of the benchmark's attention set, on which a φ for it is trained; empty: it has none
    model: str
    model_revision: str
    tokenizer_hash: str  # empty where a plan is made without the tokenizer
    outline: Callable[[], nn.Module] | None = None  # the model without its weights, on torch's meta device


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How large a run is, for a method to say before it what its hooks will need (`Method.needs`)."""

    trained: int  # parameters that train
    base_bytes: int  # what a second base model takes; 0 where the frozen weights are shared
    width: int  # of the hidden states
    inputs_and_outputs: int  # summed over the linear layers: an adapter of rank r on all has r times as many parameters
    stage_tokens: int  # of the stage with most of them
    epochs: int
    pairs: int = 0  # solved ones of the benchmark


@dataclass(frozen=True, kw_only=True)
class Training:
    """A preparation that is a training of its own (`Method.prepare`)."""

    documents: float  # that are worked on, validation among them
    passes: float  # what is computed for each, in forward passes of the base model
    trained: int  # parameters that train
    bytes: int  # held beside one base model, those parameters, their gradients and moments


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a method's hooks need beside the model that `build` makes, its gradients and AdamW's two moments."""

    memory: Mapping[str, int] = field(default_factory=dict)  # bytes held through a stage, by what they are
    passes: float = 0.0  # forward passes of the base model over every document, once a stage
    documents: float = 1.0  # that are read in training for each of the stage's
    beside: float = 0.0  # tokens that a penalty reads for each of a document's, kept for the gradient beside it
    whole_logits: int = 0  # copies of one document's full logits that stand in memory at once
    trunk_once: bool = False  # the base model reads every document once a stage, without gradients
    training: Training | None = None


@dataclass(frozen=True, kw_only=True)
class StageContext:
    """What a hook may know of the stage: its documents, never its probes."""

    name: str
    index: int  # from 0
    seed: int
    documents: Sequence[EncodedDocument]
    rehearsal: Callable[[], Sequence[EncodedDocument]]  # tokenised when first asked for
    base: Callable[[], nn.Module]  # the untrained base model; shares memory with the model where its trunk is frozen
    inputs: Mapping[str, Path]  # what `inputs` returned
    tokenizer: Tokenizer = None  # of the run's model
    # The benchmark's attention set: documents, each with a prompt that asks for its fact; no probe asks for these.
    solved: Callable[[], Sequence[AttentionDocument]] = tuple


@dataclass(frozen=True, kw_only=True)
class BuildContext:
    """What `build` may know of the run that its model will learn in."""

    seed: int
    tokenizer: Tokenizer
    texts: Sequence[str]  # of the documents of the first stage; what they are evidence of is not said
    solved: Callable[[], Sequence[AttentionDocument]]  # as in `StageContext`
    inputs: Mapping[str, Path]  # what `inputs` returned


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a penalty that takes an argument sees: documents that go through the model together, and how they weigh.

    That is the batch of an optimizer's step, or a part of it where it is split; T tokens of the longest of B documents.
    """

    batch: Batch
    weights: Tensor  # (B, T-1), as `weigh` gave them
    nll: Callable[[], Tensor]  # (B, T-1) nats, without gradient
    logits: Callable[[Tensor], Tensor]  # where (B, T-1) bool -> (N, V) float32 that predict the N tokens, with gradient


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How the model is scored where that is not as it was trained: named views, each entered around a scoring pass.

    `main` names the view whose scores are the run's; after a stage's last epoch every view is scored and recorded.
    A view leaves the model as it found it.
    """

    main: str
    views: Mapping[str, Callable[[], AbstractContextManager[object]]]


@dataclass(frozen=True, kw_only=True)
class Method:
    """The neutral method: every token weighs 1, AdamW, nothing replayed, nothing pulled back."""

    # The learning rate a method needs where --lr is not given; None takes the benchmark's default.
    learning_rate: ClassVar[float | None] = None
    # The same of a method that does not build: its rate with another that does, by that one's name; the
    # lowest of several counts.
    learning_rates: ClassVar[Mapping[str, float]] = MappingProxyType({})
    # False for what learns nothing: no parameter has to train, and the model is scored once.
    trains: ClassVar[bool] = True
    # What the owner of `build` holds the base model's weights in, where that is not the run's dtype.
    holds: ClassVar[str] = ""
    # False for weights that do not depend on the loss: `weigh` then gets an nll that is not a number, and the head is
    # applied only to tokens with a weight.
    reads_nll: ClassVar[bool] = True
    # False for what gives no token a weight, on purpose: only penalties teach then, and see twice as many documents at
    # once, which stay out of the model unless a penalty reads what it makes of them.
    weighs_tokens: ClassVar[bool] = True
    # True where processes that are started together share the work of `prepare` (`ckl_bench.ranks`), whatever their
    # number; several are refused else.
    prepares_together: ClassVar[bool] = False

    def inputs(self, target: RunTarget) -> Mapping[str, Path]:
        """Files that this run reads (a trained φ, say); their hashes join the run's identity.

        Called before any weight is loaded: the place to say in one line that something is missing (UserError).
        """
        return {}

    def preparation(self, inputs: Mapping[str, Path]) -> Preparation | None:
        """What it took to make a file among `inputs`, where that was work of its own (TAALM's φ) and is known."""
        return None

    def build(self, load: Callable[..., nn.Module]) -> nn.Module:
        """The model that learns, made from the base model `load(**options)`; parameters that train require grad.

        A method may add an argument `context: BuildContext | None = None`. It is None where the model is only counted
        (`ckl-bench plan`), or made to take up weights that were kept: of the same parameters, whatever their values.
        """
        raise NotImplementedError("a stack without an owner of build gets lora")

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write what the model that `build` made has learned; asked of the owner of `build`.

        As it stands: peft's models as adapter folders, transformers' whole, of others the parameters that train.
        """
        save_weights(model, folder)

    def load(self, load: Callable[..., nn.Module], folder: Path) -> nn.Module:
        """The model that `build` makes, with what `save` wrote; UserError where that does not fit."""
        model = self.build(load)
        load_weights(model, folder)
        return model

    def weigh(self, model: nn.Module, tokenizer: Tokenizer, stage: StageContext) -> Weigh:
        """Token weights of the stage: returns f(batch, nll) -> weights, both (B, T-1); nll carries no gradient.

        Entry [b, i] multiplies the loss of predicting token i+1 of document b. Padding is masked by the core, and a
        large batch is weighed in parts.
        """
        return lambda batch, nll: nll.new_ones(nll.shape)

    def stream(self, batches: Iterable[Batch], stage: StageContext, epoch: int) -> Iterable[Batch]:
        """The batches of one epoch (from 1) as the model shall meet them: a pure function of stage, seed and epoch."""
        return batches

    def penalty(self, model: nn.Module, stage: StageContext) -> Penalty | None:
        """A term added to the loss at every step of the stage: returns f() or f(step) -> scalar in nats, or None.

        `f()` is called once a step, for what depends on the weights alone. `f(step)` is called with each part of the
        batch that goes through the model at once (`Step`) and returns a mean over the part's documents; the core adds
        the parts up to the batch's mean. The stage is given since some penalties are measured on documents (EWC's
        Fisher information).
        """
        return None

    def optimizer(self, params: Sequence[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """The optimizer of the stage; AdamW without weight decay, which would itself be a way of forgetting.

        One that is scored with other weights than it learns with has `train()` and `eval()`, as schedule-free ones
        have: the core calls the first before every epoch and the second behind it.
        """
        import torch

        return torch.optim.AdamW(params, lr=lr, weight_decay=0.0)

    def scoring(self, model: nn.Module) -> Scoring | None:
        """How the model is scored, asked once a run before anything is learned; None scores it as it stands."""
        return None

    def needs(self, extent: Extent) -> Needs | None:
        """What `ckl-bench plan` cannot see of the method without running it; None says that it is not known.

        It sees what `build` makes, which parameters train, and AdamW.
        """
        return None

    @classmethod
    def for_check(cls, *, benchmark: str, model: str, folder: Path) -> Mapping[str, object]:
        """Settings with which `ckl-bench check-method` can run the method on a tiny model.

        A method that reads a prepared file (TAALM's φ) makes a small one in `folder` and names it here.
        """
        return {}

    def prepare(self, *, settings: Sequence[str], **context: Any) -> None:
        """Work done once, by a command of its own, before any run (for TAALM: meta-training φ)."""


def hooks_of(method: type[Method]) -> tuple[str, ...]:
    """The hooks that a method overrides, in the order of `HOOKS`."""
    return tuple(hook for hook in HOOKS if getattr(method, hook) is not getattr(Method, hook))


def misspelt(method: type[Method]) -> Iterator[tuple[str, str]]:
    """(name, the name of `Method`'s that was meant) of public methods that are nearly a hook, and would never run.

    Inherited ones too, whatever their case. Near is what shares its first letter and most of the others, in any order,
    or is the plural of such a name: `wiegh`, `streams`; and what is one slip away from a hook: `buikd`, `Weigh`.
    `weights_of` and `builder` are names of their own.
    """
    names = [name for name, value in vars(Method).items() if _public(name, value)]
    for cls in method.__mro__:
        for name, value in vars(cls).items():
            if name not in names and _public(name, value):
                near = {meant: max(_near(name, meant), _near(name.removesuffix("s"), meant)) for meant in names}
                closest = max(near, key=near.__getitem__)
                if near[closest] >= 0.85:
                    yield name, closest


def _public(name: str, value: object) -> bool:
    kinds = (FunctionType, classmethod, staticmethod, partial, partialmethod)
    return not name.startswith("_") and isinstance(value, kinds)


def _near(name: str, meant: str) -> float:
    name = name.lower().rstrip("_")
    if meant in HOOKS and _one_slip(name, meant):
        return 1.0
    return difflib.SequenceMatcher(a=name, b=meant).quick_ratio() if name[:1] == meant[0] else 0.0


def _one_slip(name: str, meant: str) -> bool:
    """Whether names differ by at most one letter too many, missing or another, or by two that have changed places."""
    while name and meant and name[0] == meant[0]:
        name, meant = name[1:], meant[1:]
    while name and meant and name[-1] == meant[-1]:
        name, meant = name[:-1], meant[:-1]
    return max(len(name), len(meant)) < 2 or (len(name) == 2 and name == meant[::-1])
