"""Meta-train φ: a benchmark's pairs of document and task -> φ's file, kept where it does best on held-out documents.

A training that was stopped goes on from its last checkpoint when the same command is given again, and ends with the
same φ, to the last bit. Several processes (`ckl_bench.ranks`) share the documents of every step, and of a look at φ;
each takes the same step, and the first one writes.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ckl_bench import ranks, shares
from ckl_bench.benchmarks.format import AttentionDocument, Benchmark
from ckl_bench.errors import CklError, UserError
from ckl_bench.learning.fits import require_fit, texts_of_attention
from ckl_bench.learning.sizes import loss_scale, precision
from ckl_bench.models.base import BaseModel
from ckl_bench.models.trunk import share_trunk
from ckl_bench.progress import Line, line, log
from ckl_bench.spec import Dtype
from ckl_bench.storage.checkpoint import Keeper
from ckl_bench.storage.prepared import require_name

from ..qlora import load_nf4
from .attention import FILES, Shape, TrainAttention
from .learners import compute_again
from .meta_train import (
    MetaTraining,
    Weigh,
    batch_of,
    make_examples,
    make_learners,
    meta_step,
    own_share,
    token_weights,
    validate,
)
from .tried import side_by_side, supported_form


def train_attention(
    *,
    benchmark: Benchmark,
    base: BaseModel,
    out: Path,
    device: str,
    seed: int,
    settings: MetaTraining,
    fresh: bool,
    dtype: Dtype = "float32",
    checkpoint_activations: bool = False,
) -> None:
    """Train φ on the benchmark's attention set and write `out` (safetensors) with a JSON of its curve beside it.

    A φ of the very same training that is there already is left as it is, unless `fresh`. Products are in `dtype`, which
    is that of the base model's weights; adapters, φ and the optimizers are float32.

    Raises UserError for a benchmark without an attention set or with too few documents, and where another process is
    training to the same file; CklError where φ's gradient is not finite.
    """
    require_name(out)
    rows = list(benchmark.attention)[: settings.limit or None]
    if len(rows) <= settings.held_out:
        raise UserError(
            f"benchmark '{benchmark.name}' has {len(rows)} attention documents; more than {settings.held_out} "
            "(held_out) are needed; build it from a source with more facts, or --set held_out=N"
        )
    require_fit(texts_of_attention(rows, settings.max_tokens), base)
    random.Random(seed).shuffle(rows)
    about = {
        "model": base.name,
        "model_revision": base.revision,
        "tokenizer_hash": base.tokenizer_hash,
        "benchmark": benchmark.name,
        "benchmark_hash": benchmark.hash,
        "data_sha256": benchmark.manifest["files"]["attention/train.jsonl"],
        "seed": seed,
        "settings": asdict(settings),
        **({} if dtype == "float32" else {"dtype": dtype}),  # what is said of older ones stays true
    }
    with FILES.making(out, about, fresh=fresh) as keeper:
        if keeper is None:
            return
        if dtype == "bfloat16":
            log("note: in bfloat16 the gradient of φ was measured half its length off; --dtype float32 is not")
        with keeper.listening(), line("meta-training φ") as shown:
            shown.status = f"loading {base.name}"
            with precision(device, dtype):
                training = _Training(base, rows, settings, device, seed, loss_scale(dtype), checkpoint_activations)
                training.learn(keeper, shown)
        FILES.save(out, training.best, {**about, **training.about()})


class _Training:
    """φ on its way through the meta-steps."""

    def __init__(
        self,
        base: BaseModel,
        rows: Sequence[AttentionDocument],
        settings: MetaTraining,
        device: str,
        seed: int,
        magnified: float,
        again: bool,
    ) -> None:
        self.settings, self.device, self.seed = settings, device, seed
        examples = make_examples(base.tokenizer, rows, settings.max_tokens)
        self.held_out, self.training = examples[: settings.held_out], examples[settings.held_out :]
        torch.manual_seed(seed)
        trunk_of_learner = load_nf4(base.load) if settings.nf4 else base.load()
        options = {"magnified": magnified, "keeps": not again}
        self.learners = make_learners(trunk_of_learner, settings.inner_r, settings.inner_alpha, seed, **options)
        self.shape = Shape(r=settings.r, alpha=settings.alpha, bias=settings.bias, scale=settings.scale)
        trunk: nn.Module | None = share_trunk(self.learners.model)
        self.phi = TrainAttention(trunk if trunk is not None else base.load(), self.shape, seed)
        if again:
            for model in (self.learners.model, self.phi.trunk):
                compute_again(model, base.name)
        self.own = self.phi.trained()
        ranks.as_first([p.data for p in (*self.own.values(), self.learners.start)])
        self.optimizer = torch.optim.AdamW(self.own.values(), lr=settings.lr, weight_decay=0.0)
        texts = [example.document.ids for example in self.training[:3]]
        at = torch.device(device)
        self.form = ranks.from_first(partial(supported_form, self.learners, texts[0], at))
        self.learners.together = ranks.from_first(partial(side_by_side, self.learners, texts, at))
        self.step = 0
        self.baselines: dict[str, float] = {}
        self.curve: list[dict[str, Any]] = []
        self.best: dict[str, Tensor] = {}
        self.best_nll = float("inf")
        self.cost = {"seconds": 0.0, "documents": 0, "tokens": 0}

    def learn(self, keeper: Keeper, shown: Line) -> None:
        """All meta-steps, going on from what `keeper` holds; the line says how far it has come."""
        settings = self.settings
        shown.status = "measuring what is to be beaten"
        if not keeper.take_up(self):
            self.begin()
        shown.begin(settings.steps * settings.batch_size, self.step * settings.batch_size)
        while self.step < settings.steps:
            shown.status = f"step {self.step + 1}/{settings.steps}  best held-out NLL {self.best_nll:.3f}"
            start = time.perf_counter()
            self.take_step(shown.advance)
            self.cost["seconds"] += time.perf_counter() - start
            keeper.after_step(self.state)

    def begin(self) -> None:
        """Measure φ as it starts, and what it has to beat."""
        start = time.perf_counter()
        by_hand: dict[str, Weigh] = {
            "uniform": lambda examples: [torch.ones(len(example.on_object)) for example in examples],
            "object only": lambda examples: [example.on_object.float() for example in examples],
        }
        self.baselines = {name: self.validate(weigh)["task_nll"] for name, weigh in by_hand.items()}
        log("held-out task NLL: " + ", ".join(f"{name} weights {nll:.3f}" for name, nll in self.baselines.items()))
        self.curve.append({"step": 0, "held_out": self.look()})
        self.cost["seconds"] += time.perf_counter() - start

    def take_step(self, advance: Callable[[int], None]) -> None:
        """One meta-step; φ is looked at now and then, and behind the last one. CklError where it is not finite."""
        step, settings = self.step + 1, self.settings
        batch = batch_of(self.training, settings.batch_size, step, self.seed)
        self.optimizer.zero_grad(set_to_none=True)
        with ranks.together():
            own = own_share(batch)
            seen = meta_step(self.phi, self.learners, own, settings, self.form, self.device, advance, len(batch))
        advance(len(batch) - len(own))
        shares.sum_gradients(list(self.own.values()))
        norm = torch.stack([p.grad.norm() for p in self.own.values() if p.grad is not None]).norm().item()
        if not norm < float("inf"):
            names = ", ".join(example.document.id for example in batch)
            raise CklError(f"φ's gradient is not finite at step {step}; documents of the batch: {names}")
        self.optimizer.step()
        self.step = step
        self.cost["documents"] += len(batch)
        self.cost["tokens"] += sum(len(example.document.ids) for example in batch)
        entry: dict[str, Any] = {"step": step, "train": seen.means(), "gradient_norm": norm}
        if step % settings.validate_every == 0 or step == settings.steps:
            entry["held_out"] = score = self.look()
            log(
                f"step {step}: held-out task NLL {score['task_nll']:.3f}, mean weight on the object "
                f"{score['weight_on_object']:.3f}, elsewhere {score['weight_elsewhere']:.3f}"
            )
        self.curve.append(entry)

    def look(self) -> dict[str, float]:
        """Validate φ, and keep it if it never did better."""
        score = self.validate(partial(token_weights, self.phi, device=self.device))
        if score["task_nll"] < self.best_nll or not self.best:
            self.best_nll = score["task_nll"]
            self.best = {name: p.detach().cpu().clone() for name, p in self.own.items()}
        return score

    def validate(self, weigh: Weigh) -> dict[str, float]:
        """What weights are worth on the held-out documents."""
        with ranks.together():
            own = own_share(self.held_out)
            seen = validate(self.learners, own, weigh, self.settings, self.device)
        return seen.means()

    def state(self) -> dict[str, Any]:
        """Everything that the training needs to go on behind this step."""
        return {
            "step": self.step,
            "baselines": self.baselines,
            "curve": self.curve,
            "best": self.best,
            "best_nll": self.best_nll,
            "cost": self.cost,
            "phi": dict(self.own),
            "optimizer": self.optimizer.state_dict(),
        }

    @torch.no_grad()
    def take_up(self, saved: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        log(f"going on from step {saved['step']} of {self.settings.steps}")
        for name in ("step", "baselines", "curve", "best", "best_nll", "cost"):
            setattr(self, name, saved[name])
        for name, parameter in self.own.items():
            parameter.copy_(saved["phi"][name])
        self.optimizer.load_state_dict(saved["optimizer"])

    def about(self) -> dict[str, Any]:
        """What φ's JSON says of its training, beside what it was made from; seconds count training and validation."""
        return {
            "shape": asdict(self.shape),
            "gradient": self.form,
            "baselines": self.baselines,
            "best_task_nll": self.best_nll,
            "cost": self.cost | {"seconds": round(self.cost["seconds"], 1)},
            "curve": self.curve,
        }
