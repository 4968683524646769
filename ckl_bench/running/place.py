"""Where a sweep runs, as it is asked for, and the executor for that."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ckl_bench.errors import UserError, unknown
from ckl_bench.running.address import require_answer

if TYPE_CHECKING:
    from ckl_bench.running.task import Executor, Task

EXECUTORS = {"local": "", "ray": "ray", "slurm": "submitit"}  # name -> the package that it needs
# What only some of them take.
_FOR = {
    "address": ("ray",),
    "gpus": ("ray", "slurm"),
    "gpu_memory": ("ray",),
    "memory": ("ray", "slurm"),
    "slurm": ("slurm",),
}


@dataclass(frozen=True, kw_only=True)
class Place:
    """An executor, and what each run gets there."""

    executor: str = "local"
    jobs: int | None = None  # runs at once; None: one a GPU, or one; on a cluster as many as there is room for
    cpus: int | None = None  # cores a run; None: all of a machine, shared out among `jobs`; one in a job of Slurm
    gpus: float | None = None  # GPUs a run on a cluster, with Ray also a part of one; None: what `plan` says
    gpu_memory: int | None = None  # bytes of a GPU, by which that part is found; None: those of the one that is here
    memory: int | None = None  # bytes of main memory a run on a cluster; None: what `plan` says
    address: str | None = None  # of a Ray cluster; None: this machine
    slurm: Mapping[str, str] | None = None  # options of sbatch

    def __post_init__(self) -> None:
        if self.executor not in EXECUTORS:
            raise unknown("executor", self.executor, EXECUTORS)
        for name, takers in _FOR.items():
            if getattr(self, name) is not None and self.executor not in takers:
                raise UserError(
                    f"--{name.replace('_', '-')} is for --executor {' or '.join(takers)}; leave it out, or give that"
                )
        for name in ("jobs", "cpus", "memory", "gpu_memory"):
            value = getattr(self, name)
            if value is not None and not 1 <= value < (2**63 if "memory" in name else 2**31):
                raise UserError(f"--{name.replace('_', '-')} {value}: expected a whole number of at least 1")
        if self.gpus is not None and not (0 <= self.gpus < 2**15 and (self.gpus < 1 or self.gpus == int(self.gpus))):
            raise UserError(f"--gpus {self.gpus:g}: expected a whole number, or a part of one GPU such as 0.25")
        if self.gpus is not None and self.executor == "slurm" and self.gpus != int(self.gpus):
            raise UserError(f"--gpus {self.gpus:g}: Slurm gives whole GPUs; parts of one are for --executor ray")
        package = EXECUTORS[self.executor]
        if package and find_spec(package) is None:
            raise UserError(f"--executor {self.executor} needs {package}: pip install 'ckl-bench[{self.executor}]'")

    def require_answer(self) -> None:
        """UserError where nobody answers at the address; nothing heavy is loaded for that."""
        if self.address is not None:
            require_answer(self.address)

    def make(self, folder: Path, tasks: Sequence[Task]) -> Executor:
        """The executor of these tasks, all for one kind of device; its files go into `folder`.

        UserError where it cannot be reached, or has no room for a run.
        """
        on_gpu = tasks[0].request.device.startswith("cuda")
        if self.executor == "ray":
            from ckl_bench.running.ray import Ray

            return Ray(
                folder,
                tasks,
                address=self.address,
                jobs=self.jobs,
                cpus=self.cpus,
                gpus=self.gpus,
                memory=self.memory,
                card=self.gpu_memory or (_card() if on_gpu and self.gpus is None else None),
            )
        if self.executor == "slurm":
            from ckl_bench.running.slurm import Slurm

            gpus = int(self.gpus if self.gpus is not None else on_gpu)
            return Slurm(folder, jobs=self.jobs, cpus=self.cpus, gpus=gpus, memory=self.memory, settings=self.slurm)
        from ckl_bench.running.local import Local

        own = _own_gpus() if on_gpu else []
        return Local(folder, self.jobs or max(1, len(own)), self.cpus, own)


def _card() -> int | None:
    """Bytes of this machine's GPU, None without one: those of a cluster are taken to be like it."""
    import torch

    return int(torch.cuda.get_device_properties(0).total_memory) if torch.cuda.is_available() else None


def _own_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names each; none without CUDA."""
    import torch

    if not torch.cuda.is_available():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return [name.strip() for name in named.split(",")] if named else [str(n) for n in range(torch.cuda.device_count())]
