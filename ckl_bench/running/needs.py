"""How much memory, or of a GPU, a run is to be given, where somebody shares it out: what `plan` says, and some."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache

from ckl_bench.errors import UserError
from ckl_bench.forecast.forecast import ForecastRequest, forecast
from ckl_bench.running.task import Task

MARGIN = 1.5  # a forecast may be a third below what is measured
CONTEXT = 2**29  # bytes of a GPU that every process takes before it has a tensor there
PARTS = (0.125, 0.25, 0.5)  # of a GPU, as runs may share one


def memory_of(task: Task) -> int | None:
    """Bytes of main memory for a run on a CPU; None where it is not known, and of one on a GPU, which has its own."""
    if task.request.device.startswith("cuda"):
        return None
    return _bytes(_asked(task))


def gpus_of(task: Task, card: int | None) -> float:
    """The part of a GPU with `card` bytes for a run on one: an eighth, a quarter, a half, else all of it; 0 on a CPU.

    All of it too where it is not known what the card has, or what the run needs.
    """
    if not task.request.device.startswith("cuda"):
        return 0.0
    need = None if card is None else _bytes(replace(_asked(task), on_gpu=True, memory=card))
    if card is None or need is None:
        return 1.0
    return next((part for part in PARTS if need + CONTEXT <= part * card), 1.0)


def _asked(task: Task) -> ForecastRequest:
    asked = {each.name: getattr(task.request, each.name) for each in fields(ForecastRequest) if each.name in _SHARED}
    return ForecastRequest(**asked | {"settings": tuple(task.request.settings)})


_SHARED = {each.name for each in fields(ForecastRequest)} - {"on_gpu", "memory"}


@cache
def _bytes(request: ForecastRequest) -> int | None:
    try:
        return int(MARGIN * forecast(request).memory.peak)
    except UserError:  # of a model whose configuration does not say enough; what is wrong with a run it says itself
        return None
