"""How much memory a run is to be given, where somebody shares it out: what `plan` says, and some."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache

from ckl_bench.errors import UserError
from ckl_bench.forecast.forecast import ForecastRequest, forecast
from ckl_bench.running.task import Task

MARGIN = 1.5  # a forecast may be a third below what is measured


def memory_of(task: Task) -> int | None:
    """Bytes of main memory for a run on a CPU; None where it is not known, and of one on a GPU, which has its own."""
    if task.request.device.startswith("cuda"):
        return None
    asked = {each.name: getattr(task.request, each.name) for each in fields(ForecastRequest) if each.name in _SHARED}
    return _bytes(ForecastRequest(**asked | {"settings": tuple(task.request.settings)}))


_SHARED = {each.name for each in fields(ForecastRequest)} - {"on_gpu", "memory"}


@cache
def _bytes(request: ForecastRequest) -> int | None:
    try:
        return int(MARGIN * forecast(replace(request, memory=0)).memory.peak)
    except UserError:  # of a model whose configuration does not say enough; what is wrong with a run it says itself
        return None
