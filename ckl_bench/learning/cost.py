"""What a run took: seconds by phase, tokens, memory, parameters."""

from __future__ import annotations

from torch import nn

from ckl_bench import ranks
from ckl_bench.learning.environment import peak_memory
from ckl_bench.learning.planned import Plan
from ckl_bench.learning.standing import Standing
from ckl_bench.records import LEARNING, Cost


def cost_of(now: Standing, model: nn.Module, plan: Plan) -> Cost:
    """What a run of this plan took so far."""
    seconds = now.clock.seconds
    learning = sum(seconds.get(phase, 0.0) for phase in LEARNING)
    return Cost(
        seconds={name: round(value, 3) for name, value in seconds.items()},
        train_tokens=now.tokens,
        train_tokens_per_second=round(now.tokens / max(learning, 1e-9), 2),
        peak_memory_bytes=max(ranks.gather(peak_memory(plan.device))),
        trainable_parameters=sum(p.numel() for p in now.trained.values()),
        total_parameters=sum(p.numel() for p in model.parameters()),
        preparations=plan.stack.preparations(plan.inputs),
    )
