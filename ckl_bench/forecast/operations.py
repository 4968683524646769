"""A model's shape and the tokens that it reads -> operations, and the time that they take by class of device."""

from __future__ import annotations

from collections.abc import Mapping

from ckl_bench.forecast.memory import Setting
from ckl_bench.forecast.shape import Shape
from ckl_bench.forecast.tokens import Tokens
from ckl_bench.learning.divergence import DOCUMENTS
from ckl_bench.method import Needs

# Operations a second, in 10^12, that a run gets out of a device: (float32, 16 bits). Of two CPU cores it is what the
# records of the default model show; a laptop's eight cores count as three times that; of GPUs it is 30 % of what their
# makers name, dense and without TF32, which a run turns off. Small models and micro-batches get less out of a GPU.
DEVICES: Mapping[str, tuple[float, float]] = {
    "2 CPU cores": (0.1, 0.1),
    "laptop CPU (8 cores)": (0.3, 0.3),
    "RTX 4090 (24 GB)": (0.3 * 82.6, 0.3 * 165.2),
    "A100 (80 GB)": (0.3 * 19.5, 0.3 * 312.0),
    "H100 (80 GB)": (0.3 * 66.9, 0.3 * 989.4),
}


def operations_of(
    shape: Shape, needs: Needs, setting: Setting, tokens: Tokens, epochs: int, limit: int | None
) -> float:
    """Operations of a whole run, as `forecast` counts them."""
    applied = shape.applied + shape.head
    stages, prompts = len(tokens.stages), tokens.prompts
    scored = sum(prompts) * (epochs + 1 if setting.trains else 1) + sum(prompts[1:])
    scored += sum(count * (stages - 1 - place) for place, count in enumerate(prompts))
    total = 2.0 * applied * scored
    if not setting.trains:
        return total
    back = 2.0 * shape.applied if shape.base_trains else 0.0
    through = 0.0 if needs.trunk_once else (2.0 + setting.checkpoints) * 2.0 * shape.applied
    a_token = through + back + 4.0 * shape.head + 6.0 * shape.applied_added + 2.0 * shape.head * shape.base_trains
    once = needs.passes + needs.trunk_once
    looked_at = 2 * min(DOCUMENTS, limit or DOCUMENTS) * setting.longest * 3 * stages  # divergence, at most
    return total + a_token * tokens.all + 2.0 * applied * (once * sum(tokens.stages) + looked_at)


def seconds_of(operations: float, dtype: str) -> dict[str, float]:
    """Seconds of so many operations, by class of device."""
    place = 0 if dtype == "float32" else 1
    return {name: operations / (speeds[place] * 1e12) for name, speeds in DEVICES.items()}
