"""Where a sweep runs, as it is asked for, and the executor for that."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ckl_bench.errors import UserError, unknown
from ckl_bench.running.local import Local
from ckl_bench.running.task import Executor

EXECUTORS = ("local",)


@dataclass(frozen=True, kw_only=True)
class Place:
    """An executor, and what each run gets there."""

    executor: str = "local"
    jobs: int | None = None  # runs at once; None: one a GPU, or one
    cpus: int | None = None  # cores a run; None: all, shared out among `jobs`

    def __post_init__(self) -> None:
        if self.executor not in EXECUTORS:
            raise unknown("executor", self.executor, EXECUTORS)
        for name in ("jobs", "cpus"):
            value = getattr(self, name)
            if value is not None and not 1 <= value < 2**31:
                raise UserError(f"--{name} {value}: expected a whole number of at least 1")

    def make(self, folder: Path, device: str) -> Executor:
        """The executor, whose files go into `folder`; with the GPUs of this process where the runs are for one."""
        gpus = _own_gpus() if device == "cuda" else []
        return Local(folder, self.jobs or max(1, len(gpus)), self.cpus, gpus)


def _own_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names each; none without CUDA."""
    import torch

    if not torch.cuda.is_available():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return [name.strip() for name in named.split(",")] if named else [str(n) for n in range(torch.cuda.device_count())]
