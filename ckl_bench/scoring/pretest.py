"""Pre-test models: what a base model knows of every candidate fact, before a benchmark is built."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ckl_bench.benchmarks.format import Probe
from ckl_bench.benchmarks.lama_ckl import Pretest
from ckl_bench.models.find import BaseModel, find_model
from ckl_bench.scoring.engine import score_probes


def pretest_models(
    names: Sequence[str], *, device: str, trust_remote_code: bool = False, allow_pickle: bool = False
) -> dict[str, tuple[str, Pretest]]:
    """Name -> (revision, scorer) for the builder; a scorer loads its model when it is first called."""
    found = [
        find_model(name, device=device, trust_remote_code=trust_remote_code, allow_pickle=allow_pickle)
        for name in names
    ]
    return {base.name: (base.revision, _scorer(base)) for base in found}


def _scorer(base: BaseModel) -> Pretest:
    loaded: list[nn.Module] = []

    def scorer(probes: Sequence[Probe]) -> list[float]:
        if not loaded:
            loaded.append(base.load())
        return [found.accuracy for found in score_probes(loaded[0], base.tokenizer, probes)]

    return scorer
