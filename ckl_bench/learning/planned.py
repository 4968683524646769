"""What is to be run, resolved and checked, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from ckl_bench.benchmarks.format import Benchmark
from ckl_bench.learning.sizes import Sizes
from ckl_bench.learning.tasks import Retain
from ckl_bench.models.base import BaseModel
from ckl_bench.records import Cost, Retained, StageScores
from ckl_bench.scoring.sets import Scores
from ckl_bench.spec import Spec
from ckl_bench.stacks.stack import Stack


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A request with everything resolved and checked, no weight loaded yet."""

    spec: Spec
    stack: Stack
    benchmark: Benchmark
    base: BaseModel
    inputs: Mapping[str, Path]
    device: str
    warnings: Sequence[str]
    sizes: Sizes = field(default_factory=Sizes)
    place: str = ""  # which of several runs this is, as `seed 2/3`
    retain: Retain | None = None  # other tasks that the model is asked before and after


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What a finished run gives its record."""

    cost: Cost
    before: dict[str, Scores]
    stages: list[StageScores]
    told: bool
    weights_sha256: str
    model: nn.Module
    retained: dict[str, dict[str, Retained]]
    to_keep: Callable[[], AbstractContextManager[int]]  # in the first process: the model to keep, as scored; its epoch
    as_scored: Callable[[], AbstractContextManager[object]]  # in it, the model is what its scores are of
