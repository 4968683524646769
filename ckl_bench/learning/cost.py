"""What a run took: seconds, tokens, memory, parameters."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ckl_bench import ranks
from ckl_bench.learning.environment import peak_memory
from ckl_bench.learning.standing import Standing
from ckl_bench.records import Cost, Preparation


def cost(now: Standing, model: nn.Module, preparations: Sequence[Preparation]) -> Cost:
    """What a run that stands so took; `preparations` are what was spent before it. Of several processes the largest's
    memory.
    """
    seconds = now.clock.seconds
    learning = seconds.get("weigh", 0.0) + seconds.get("train", 0.0)
    return Cost(
        seconds={name: round(value, 3) for name, value in seconds.items()},
        train_tokens=now.tokens,
        train_tokens_per_second=round(now.tokens / max(learning, 1e-9), 2),
        peak_memory_bytes=max(ranks.gather(peak_memory(now.device))),
        trainable_parameters=sum(p.numel() for p in now.trained.values()),
        total_parameters=sum(p.numel() for p in model.parameters()),
        preparations=list(preparations),
    )
