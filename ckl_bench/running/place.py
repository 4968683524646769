"""Where a sweep runs, as it is asked for, and the executor for that."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ckl_bench.errors import UserError, unknown
from ckl_bench.learning.environment import pick_device, pick_dtype
from ckl_bench.running.local import Local
from ckl_bench.running.task import Executor
from ckl_bench.spec import Dtype

EXECUTORS = ("local",)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(I?)B?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Place:
    """An executor, and what each run gets there."""

    executor: str = "local"
    jobs: int | None = None  # runs at once; None: one a GPU or one (local), as many as there is room for (ray, slurm)
    cpus: int | None = None  # cores a run; None: all, shared out among `jobs` (local), or one (ray, slurm)
    gpus: float | None = None  # GPUs a run; None: one where the runs are for a GPU
    memory: int | None = None  # bytes a run
    address: str | None = None  # of a Ray cluster; None: one on this machine, for as long as the sweep takes
    slurm: Mapping[str, str] = field(default_factory=dict)  # parameters of submitit's executor

    def __post_init__(self) -> None:
        if self.executor not in EXECUTORS:
            raise unknown("executor", self.executor, EXECUTORS)
        for name in ("jobs", "cpus"):
            value = getattr(self, name)
            if value is not None and not 1 <= value < 2**31:
                raise UserError(f"--{name} {value}: expected a whole number of at least 1")
        if self.gpus is not None and not 0 <= self.gpus < 1024:
            raise UserError(f"--gpus {self.gpus:g}: expected a number that is not negative, such as 1 or 0.25")
        if self.gpus is not None and self.gpus > 1 and self.gpus != int(self.gpus):
            raise UserError(f"--gpus {self.gpus:g}: expected a whole number, or a part of one GPU such as 0.25")
        misplaced = {
            "--gpus": self.gpus is not None and self.executor == "local",
            "--memory": self.memory is not None and self.executor == "local",
            "--address": self.address is not None and self.executor != "ray",
            "--slurm": bool(self.slurm) and self.executor != "slurm",
        }
        for option, wrong in misplaced.items():
            if wrong:
                belongs = {"--address": "ray", "--slurm": "slurm"}.get(option, "ray or slurm")
                raise UserError(f"{option} belongs to --executor {belongs}; this is {self.executor}, which has --jobs")

    def device(self, name: str) -> str:
        """The device of the runs: `auto` is a GPU where each run gets one. UserError for one that is not there."""
        if self.executor == "local":
            return pick_device(name)
        wanted = self.gpus if self.gpus is not None else float(name.startswith("cuda"))
        if name == "auto":
            return "cuda" if wanted else "cpu"
        if name.startswith("cuda") != bool(wanted):
            raise UserError(f"--device {name} with --gpus {wanted:g}: give both for a GPU, or neither")
        return name

    def dtype(self, name: str, device: str) -> Dtype:
        """The numbers of the runs; UserError where `auto` would have to ask a GPU that is elsewhere."""
        if name == "auto" and device.startswith("cuda") and self.executor != "local":
            raise UserError(
                f"--dtype auto asks the GPU, and those of --executor {self.executor} may be other ones than here; "
                "give --dtype bfloat16 or float32"
            )
        return pick_dtype(name, device)

    def make(self, folder: Path, device: str) -> Executor:
        """The executor; its files go into `folder`. UserError where what it needs is not installed or not there."""
        gpus = _own_gpus() if device == "cuda" else []
        return Local(folder, self.jobs or max(1, len(gpus)), self.cpus, gpus)


def parse_size(text: str) -> int:
    """`8GB`, `8GiB`, `512M` or a number of bytes -> bytes; UserError for anything else."""
    found = _SIZE.fullmatch(text.strip())
    if found is None or float(found[1]) == 0:
        raise UserError(f"--memory {text}: expected a size such as 8GB or 512MB")
    base = 1024 if found[3] else 1000
    return int(float(found[1]) * base ** " KMGT".index(found[2].upper() or " "))


def slurm_parameters(texts: Sequence[str]) -> dict[str, str]:
    """`partition=gpu` and so on -> by name; UserError for a text without `=`."""
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise UserError(f"--slurm {text}: expected KEY=VALUE, as in --slurm timeout_min=600")
        found[key.strip()] = value.strip()
    return found


def _own_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names each; none without CUDA."""
    import torch

    if not torch.cuda.is_available():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return [name.strip() for name in named.split(",")] if named else [str(n) for n in range(torch.cuda.device_count())]
