"""The rules of the conformance suite, each a function that raises Breach or says what it saw."""

from __future__ import annotations

import dataclasses
import inspect
import io
import json
import math
from collections.abc import Callable
from contextlib import redirect_stderr, suppress
from typing import Any

import torch
from torch import Tensor

from ckl_bench.encode import Batch, collate
from ckl_bench.learning.run import execute
from ckl_bench.learning.stages import learn_stages
from ckl_bench.method import HOOKS, Method, hooks_of
from ckl_bench.records import EpochScores, Record
from ckl_bench.stacks.settings import typed_settings
from ckl_bench.stacks.stack import make_stack
from ckl_bench.storage.checkpoint import Keeper, Store

from .data import second_model, watching_probes
from .subject import Breach, Subject


def _importable(subject: Subject) -> str:
    return f"class {subject.cls.__name__}, owns {', '.join(hooks_of(subject.cls)) or 'no hook'}"


def _documented(subject: Subject) -> str:
    module = inspect.getdoc(inspect.getmodule(subject.cls))
    if not module:
        raise Breach("the file has no docstring; its first line is what `ckl-bench methods` shows")
    own = subject.cls.__dict__.get("__doc__") or ""
    if not own or own.startswith(f"{subject.cls.__name__}("):
        raise Breach(f"class {subject.cls.__name__} has no docstring; say what it does and where it comes from")
    return module.splitlines()[0]


def _typed(subject: Subject) -> str:
    for field in dataclasses.fields(subject.cls):
        if field.default is dataclasses.MISSING:
            raise Breach(
                f"hyperparameter '{field.name}' has no default; give it one, as in `{field.name}: float = 1.0`"
            )
        text = "none" if field.default is None else str(field.default)
        try:
            back = typed_settings(subject.cls, {field.name: text})[field.name]
        except Exception as error:
            raise Breach(f"hyperparameter '{field.name}' cannot be given by --set: {error}") from error
        if isinstance(back, float) and not math.isfinite(back):
            raise Breach(f"the default of '{field.name}' is {back}, which no record can hold; use None or a number")
        if back != field.default:
            raise Breach(
                f"hyperparameter '{field.name}': its default {field.default!r} comes back as {back!r} from text"
            )
    return ", ".join(f"{f.name}={f.default}" for f in dataclasses.fields(subject.cls)) or "none to set"


def _signatures(subject: Subject) -> str:
    owned = hooks_of(subject.cls)
    if not owned:
        raise Breach(f"it overrides no hook; give it at least one of {', '.join(HOOKS)}")
    for hook in owned:
        wanted = list(inspect.signature(getattr(Method, hook)).parameters)
        found = dict(inspect.signature(getattr(subject.cls, hook)).parameters)
        context = found.pop("context", None) if hook == "build" else None
        if list(found) != wanted:
            raise Breach(f"{hook}({', '.join(found)}) should be {hook}({', '.join(wanted)})")
        if context is not None and context.default is not None:
            raise Breach("build(self, load, context) is also called without a context; give it the default None")
    return ", ".join(owned)


def _trains(subject: Subject) -> str:
    if not subject.cls.trains:
        if subject.record.cost is not None and subject.record.cost.trainable_parameters:
            raise Breach(
                "it says that it learns nothing (trains = False), and builds a model in which parameters train"
            )
        return "it learns nothing, and says so"
    losses = [e.train_loss for e in subject.record.stages[0].epochs if e.train_loss is not None]
    if not all(math.isfinite(loss) for loss in losses):
        raise Breach(f"the loss of an epoch is not finite: {losses}")
    told = "; it reads the facts that documents declare: its rows are marked as told the answers"
    return f"loss {losses[0]:.3f} -> {losses[-1]:.3f} nats{told if subject.record.told else ''}"


def _scores(record: Record) -> list[EpochScores]:
    return [epoch for stage in record.stages for epoch in stage.epochs]


def _deterministic(subject: Subject) -> str:
    if _scores(subject.run()) != _scores(subject.record):
        raise Breach("two runs with one seed differ; draw from torch's generator or from random.Random(stage.seed)")
    return ""


def _rate_zero(subject: Subject) -> str:
    first, *rest = _scores(subject.run(lr=0.0))
    if any(epoch.sets != first.sets for epoch in rest):
        raise Breach("with --lr 0 the scores change; only the optimizer may move weights, by steps that scale with lr")
    return ""


def _weights(subject: Subject) -> Callable[[Batch, Tensor], Tensor] | None:
    model, stage, plan = subject.built
    if "weigh" not in hooks_of(subject.cls):
        return None
    return plan.stack.owner("weigh").weigh(model, plan.base.tokenizer, stage)


def _padding(subject: Subject) -> str:
    _, stage, _ = subject.built
    weigh = _weights(subject)
    if weigh is None:
        return "it gives no weights"
    documents = sorted(stage.documents, key=lambda d: len(d.ids))
    pair = [documents[0], documents[-1]]
    together = collate(pair)
    nll = 5 * torch.rand(together.targets.shape, generator=torch.Generator().manual_seed(0))
    nll[together.targets == 0] = 100.0  # losses on padding mean nothing, and nothing may depend on them
    weights = weigh(together, nll)
    if weights.shape != nll.shape:
        raise Breach(f"weights have shape {tuple(weights.shape)}, expected that of nll, {tuple(nll.shape)}: (B, T-1)")
    for row, document in enumerate(pair):
        n = len(document.ids) - 1
        alone = weigh(collate([document]), nll[row : row + 1, :n])
        if not torch.allclose(_share(weights[row, :n]), _share(alone[0, :n]), atol=1e-3, rtol=1e-3, equal_nan=True):
            raise Breach(
                "a document's weights change with its neighbours or padding; use only its own row and its mask"
            )
    return "a document weighs the same alone and in a batch"


def _share(weights: Tensor) -> Tensor:
    """Weights as the loss sees them, which divides by their sum: mean 1."""
    return weights.float() / weights.float().abs().mean().clamp_min(1e-30)


def _finite(subject: Subject) -> str:
    weigh = _weights(subject)
    if weigh is None:
        return "it gives no weights"
    _, stage, _ = subject.built
    batch = collate(stage.documents)
    weights = weigh(batch, 5 * torch.rand(batch.targets.shape, generator=torch.Generator().manual_seed(1)))
    own = weights[batch.targets > 0]
    if not torch.isfinite(own).all():
        raise Breach(f"{int((~torch.isfinite(own)).sum())} weights are not finite")
    if (own < 0).any():
        raise Breach(f"the smallest weight is {own.min():.3g}; a negative weight unlearns a token without bound")
    if own.any() != subject.cls.weighs_tokens:
        if own.any():
            raise Breach("it says that no token has a weight (weighs_tokens = False), and some have")
        raise Breach("all weights are zero: nothing would be learned; where that is wanted, say weighs_tokens = False")
    return f"from {own.min():.3g} to {own.max():.3g}"


def _probes(subject: Subject) -> str:
    model, stage, plan = subject.built
    stack, trained = plan.stack, [p for p in model.parameters() if p.requires_grad]
    calls: list[Callable[[], object]] = [
        lambda: stack.owner("weigh").weigh(model, plan.base.tokenizer, stage),
        lambda: list(stack.owner("stream").stream([collate(stage.documents)], stage, 1)),
        lambda: [method.penalty(model, stage) for method in stack.owners("penalty")],
        lambda: stack.owner("optimizer").optimizer(trained, 1e-3),
        lambda: stack.owner("scoring").scoring(model),
    ]
    with watching_probes() as opened:
        for call in calls:
            with suppress(Exception):  # what a hook raises is the matter of the line "trains"
                call()
    if opened:
        raise Breach(f"it opens {opened[0]}: a method sees documents, never probes")
    try:
        rehearsed = subject.record.stages[0].rehearsed
    except Breach as error:
        if "was rehearsed" in str(error):
            raise
        return "it opens no probe file"  # why else a run fails is the next line's matter
    return f"{len(rehearsed)} documents rehearsed, none of them probed"


class _StopBehind(Keeper):
    """Saves and stops behind so many steps."""

    def __init__(self, store: Store, steps: int) -> None:
        super().__init__(store)
        self._left = steps

    def after_step(self, state: Callable[[], Any]) -> None:
        self._left -= 1
        self._asked = self._left == 0
        super().after_step(state)


def _resumes(subject: Subject) -> str:
    store = Store(subject.folder / "stopped", "check")
    for steps in (1, 2):  # of two an epoch: in the first epoch, and in the second, when half of them are done
        with suppress(KeyboardInterrupt), redirect_stderr(io.StringIO()):
            learn_stages(subject.plan(), _StopBehind(store, steps))
    with redirect_stderr(io.StringIO()):  # that it goes on is no news here
        again = execute(subject.plan(), store)
    if again.status != "done":
        raise Breach(f"a stopped run does not go on: {again.error}")
    if _scores(again) != _scores(subject.record):
        raise Breach(
            "a run that was stopped twice ends otherwise than an undisturbed one; between steps, hooks may keep "
            "only what the optimizer's state_dict holds, and streams depend on stage, seed and epoch alone"
        )
    return ""


def _architectures(subject: Subject) -> str:
    other = second_model(subject.folder / "gpt2")
    subject.run(model=str(other))
    return "Llama and GPT-2"


def _composes(subject: Subject) -> str:
    if not subject.cls.trains:
        return "it stands alone"
    partner = "entity-tokens" if "build" in hooks_of(subject.cls) else "lora"
    return subject.run(f"{subject.name}+{partner}").spec.method


def _scoring(subject: Subject) -> str:
    model, _, plan = subject.built
    scoring = plan.stack.owner("scoring").scoring(model)
    if scoring is None:
        return "it is scored as it stands"
    if scoring.main not in scoring.views:
        raise Breach(f"the main view '{scoring.main}' is none of {', '.join(scoring.views)}")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(0.01)
    learned = {name: p.detach().clone() for name, p in model.named_parameters()}
    for name, enter in scoring.views.items():
        with enter():
            pass
        if any(not torch.equal(p, learned[n]) for n, p in model.named_parameters()):
            raise Breach(f"view '{name}' does not put the learned weights back")
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(before[name])
    return ", ".join(scoring.views)


def _serialises(subject: Subject) -> str:
    record = subject.record
    if Record.model_validate(json.loads(record.model_dump_json())) != record:
        raise Breach("its record does not come back from JSON as it was; hyperparameters must be JSON values")
    typed: dict[str, Any] = record.spec.hyperparameters
    settings = [f"{m}.{f}={v}" for m, fields in typed.items() for f, v in fields.items() if v is not None]
    files = [s for s in subject.settings("tiny") if s.split("=")[0] in {x.split("=")[0] for x in settings}]
    keep = {s.split("=")[0]: s for s in [*settings, *files]}
    again = make_stack(subject.alone, list(keep.values()), subject.methods_dir)
    if again.hyperparameters != typed:
        raise Breach(f"its record's hyperparameters {typed} give other ones back: {again.hyperparameters}")
    return f"run {record.run_id}"


# name, rule, and whether the rest is pointless where it fails
RULES: tuple[tuple[str, Callable[[Subject], str], bool], ...] = (
    ("importable", _importable, True),
    ("documented", _documented, False),
    ("hyperparameters typed, with defaults", _typed, True),
    ("hooks have their signatures", _signatures, True),
    ("masks and padding respected", _padding, False),
    ("weights finite, not all zero", _finite, False),
    ("views give the weights back", _scoring, False),
    ("does not touch probes", _probes, False),
    ("trains", _trains, True),
    ("deterministic under a seed", _deterministic, False),
    ("goes on where it was stopped", _resumes, False),
    ("learning rate 0 changes nothing", _rate_zero, False),
    ("works on two architectures", _architectures, False),
    ("composes with others", _composes, False),
    ("serialises into a record and back", _serialises, False),
)
