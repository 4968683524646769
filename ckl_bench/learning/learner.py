"""The model that learns, as its method builds it and made to fit; the base model beside it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from torch import nn

from ckl_bench import ranks
from ckl_bench.errors import CklError, UserError
from ckl_bench.learning.planned import Plan
from ckl_bench.learning.shard import Below, shard
from ckl_bench.learning.sizes import checkpoint_activations, micro_batch, score_tokens
from ckl_bench.method import BuildContext
from ckl_bench.models.trunk import share_trunk

T = TypeVar("T")


class Learner:
    """What a plan's method builds; sets torch's global random state.

    `trained` are the parameters that train, by name, float32 and alike in all processes. UserError where the model
    cannot be treated as `Sizes` asks for, CklError where nothing trains.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan, sizes = plan, plan.sizes
        if plan.device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(plan.device)
        torch.manual_seed(plan.spec.seed)
        self.model = plan.stack.build(plan.base.load, context_of(plan))
        if sizes.shard:
            shard(self.model, plan.device, plan.spec.method)
        self.trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        if not self.trained and plan.stack.trains:
            raise CklError(f"{plan.spec.method} builds a model in which no parameter trains")
        for p in self.trained.values():
            p.data = p.data.float()  # of steps as small as a rate, 16 bits would lose most
        ranks.as_first([p.data for p in self.trained.values()])
        if sizes.checkpoint_activations:
            checkpoint_activations(self.model, plan.base.name)
        each = ranks.from_first if sizes.shard else _call  # in step, all take parts of the same size
        self.micro_batch = each(
            partial(
                micro_batch,
                self.model,
                plan.device,
                sizes.micro_batch,
                weighs_tokens=plan.stack.weighs_tokens,
            )
        )
        self.score_tokens = each(partial(score_tokens, self.model, plan.device, sizes.score_batch_tokens))

    def base(self) -> nn.Module:
        """A base model of which a method may make something; UserError where it is spread over processes."""
        if self._plan.sizes.shard:
            raise UserError(
                f"{self._plan.spec.method} makes something of the base model beside the one that learns, which is "
                "spread over processes; leave out --shard"
            )
        shared = share_trunk(self.model)
        return shared if shared is not None else self._plan.base.load()

    def below(self) -> nn.Module:
        """The base model, to be read alone."""
        return Below(self.model) if self._plan.sizes.shard else self.base()


def context_of(plan: Plan) -> BuildContext:
    """What a plan's builder may know of it."""
    benchmark, limit = plan.benchmark, plan.spec.limit
    return BuildContext(
        seed=plan.spec.seed,
        tokenizer=plan.base.tokenizer,
        texts=[document.text for document in benchmark.stages[0].documents[: limit or None]],
        solved=lambda: benchmark.attention,
        inputs=plan.inputs,
    )


def _call(make: Callable[[], T]) -> T:
    return make()
