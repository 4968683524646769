"""Train a writer: a benchmark's solved pairs -> the writer's file. A stopped training goes on from its last step.

Several processes (`ckl_bench.ranks`) share the pairs of every step.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from ckl_bench import ranks, shares
from ckl_bench.benchmarks.format import AttentionDocument, Benchmark, load_benchmark
from ckl_bench.errors import UserError
from ckl_bench.learning.fits import require_fit, texts_of_attention
from ckl_bench.learning.sizes import multiplies_bfloat16
from ckl_bench.method import Extent, Training
from ckl_bench.models.base import BaseModel
from ckl_bench.progress import line, log
from ckl_bench.storage.checkpoint import Keeper
from ckl_bench.storage.prepared import require_name

from .forms import forms_of
from .rows import Row, side_by_side
from .writer import FILES, Shape, adapted, solved_row


@dataclass(frozen=True, kw_only=True)
class Writing(Shape):
    """How a writer is trained."""

    epochs: PositiveInt = 3
    batch_size: PositiveInt = 8
    lr: PositiveFloat = 1e-3  # falls linearly to zero
    max_tokens: PositiveInt = 512
    limit: NonNegativeInt = 0  # use only the first N pairs; 0 takes all
    apart: str | None = None  # a benchmark (name or folder) whose documents and facts are left out, to validate on


def expected(extent: Extent) -> Training:
    """What a training with the default settings needs.

    A pair is read forward and backward, which over frozen weights costs as much, and its question and answer stand
    behind its document: a quarter more.
    """
    default = Writing()
    return Training(
        documents=default.epochs * extent.pairs,
        passes=2 * 1.25,
        trained=default.r * extent.inputs_and_outputs,
        bytes=0,
    )


def train_writer(
    *, benchmark: Benchmark, base: BaseModel, out: Path, device: str, seed: int, settings: Writing, fresh: bool
) -> None:
    """Train a writer on the benchmark's attention set and write `out` (safetensors) with a JSON beside it.

    One of the very same training that is there already is left as it is, unless `fresh`. Raises UserError for a
    benchmark without solved pairs, and where another process is training to the same file.
    """
    require_name(out)
    apart = load_benchmark(settings.apart) if settings.apart else None
    rows = list(_left(benchmark.attention, apart))[: settings.limit or None]
    if not forms_of(rows):
        raise UserError(f"benchmark '{benchmark.name}' has no solved pairs to learn from; choose one with attention")
    require_fit(texts_of_attention(rows, settings.max_tokens), base)
    about = {
        "model": base.name,
        "model_revision": base.revision,
        "tokenizer_hash": base.tokenizer_hash,
        "benchmark": benchmark.name,
        "benchmark_hash": benchmark.hash,
        "data_sha256": benchmark.manifest["files"]["attention/train.jsonl"],
        "apart_hash": apart.hash if apart else None,
        "seed": seed,
        "settings": asdict(settings) | {"apart": apart.name if apart else None},
    }
    with FILES.making(out, about, fresh=fresh) as keeper:
        if keeper is None:
            return
        with keeper.listening(), line("training the writer") as shown:
            shown.status = f"loading {base.name}"
            training = _Training(base, rows, settings, device, seed)
            keeper.take_up(training)
            shown.begin(training.steps, training.step)
            training.learn(keeper, shown.advance)
        FILES.save(out, training.own, {**about, **training.about()})


def _left(rows: Sequence[AttentionDocument], apart: Benchmark | None) -> list[AttentionDocument]:
    """The pairs of which another benchmark has neither the document nor the fact."""
    stages = apart.stages if apart else ()
    documents = {document.id for stage in stages for document in stage.documents}
    facts = {(p.subject, p.relation, p.object) for stage in stages for rows in stage.probes.values() for p in rows}
    return [
        row
        for row in rows
        if row.id not in documents and (row.fact.subject, row.fact.relation, row.fact.object) not in facts
    ]


class _Training:
    """A writer on its way through the epochs. The frozen base model is read in bfloat16 where that is fast."""

    def __init__(
        self, base: BaseModel, rows: Sequence[AttentionDocument], settings: Writing, device: str, seed: int
    ) -> None:
        self.settings, self.seed, self.device = settings, seed, device
        self.rows = [solved_row(base.tokenizer, row, settings.max_tokens) for row in rows]
        self.dtype = torch.bfloat16 if multiplies_bfloat16(device) else torch.float32
        self.model, self.own = adapted(base.load(dtype=self.dtype), settings, seed)
        ranks.as_first([p.data for p in self.own.values()])
        self.optimizer = torch.optim.AdamW(self.own.values(), lr=settings.lr, weight_decay=0.0)
        self.per_epoch = -(-len(rows) // settings.batch_size)
        self.steps = settings.epochs * self.per_epoch
        self.step = 0
        self.losses: list[float] = []
        self.cost = {"seconds": 0.0, "documents": 0, "tokens": 0}

    def learn(self, keeper: Keeper, advance: Callable[[int], None]) -> None:
        """All steps that are left."""
        while self.step < self.steps:
            start = time.perf_counter()
            self.take_step()
            self.cost["seconds"] += time.perf_counter() - start
            advance(1)
            keeper.after_step(self.state)

    def take_step(self) -> None:
        """One step of AdamW, its rate falling linearly to zero."""
        epoch, place = divmod(self.step, self.per_epoch)
        group = _groups(self.rows, self.settings.batch_size, random.Random(self.seed + epoch))[place]
        for setting in self.optimizer.param_groups:
            setting["lr"] = self.settings.lr * (1 - self.step / self.steps)
        self.optimizer.zero_grad(set_to_none=True)
        loss = torch.zeros((), device=self.device)
        with ranks.together():
            own = [group[i] for i in shares.share([len(ids) for ids, _ in group])]
            if own:
                with torch.autocast(torch.device(self.device).type, self.dtype, enabled=self.dtype != torch.float32):
                    loss = side_by_side(self.model, own).nll() * (len(own) / len(group))
                loss.backward()  # type: ignore[no-untyped-call]
        shares.sum_gradients(list(self.own.values()))
        self.optimizer.step()
        self.step += 1
        self.losses.append(shares.total(loss.detach()).item())
        self.cost["documents"] += len(group)
        self.cost["tokens"] += sum(len(ids) for ids, _ in group)

    def state(self) -> dict[str, Any]:
        """Everything that the training needs to go on behind this step."""
        return {
            "step": self.step,
            "losses": self.losses,
            "cost": self.cost,
            "own": dict(self.own),
            "optimizer": self.optimizer.state_dict(),
        }

    @torch.no_grad()
    def take_up(self, saved: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        log(f"going on from step {saved['step']} of {self.steps}")
        self.step, self.losses, self.cost = saved["step"], list(saved["losses"]), saved["cost"]
        for name, parameter in self.own.items():
            parameter.copy_(saved["own"][name])
        self.optimizer.load_state_dict(saved["optimizer"])

    def about(self) -> dict[str, Any]:
        """What the file's JSON says of its training: the mean loss of every epoch, nats a written token."""
        n = self.per_epoch
        curve = [sum(self.losses[i : i + n]) / n for i in range(0, len(self.losses), n)]
        return {
            "shape": {"r": self.settings.r, "alpha": self.settings.alpha},
            "pairs": len(self.rows),
            "cost": self.cost | {"seconds": round(self.cost["seconds"], 1)},
            "curve": [round(value, 4) for value in curve],
        }


def _groups(rows: Sequence[Row], size: int, draw: random.Random) -> list[list[Row]]:
    """Rows of similar length together, the groups in an order that is drawn."""
    mixed = draw.sample(rows, len(rows))
    mixed.sort(key=lambda row: len(row[0]))
    groups = [mixed[start : start + size] for start in range(0, len(mixed), size)]
    draw.shuffle(groups)
    return groups
