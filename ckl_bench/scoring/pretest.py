"""Pre-test models: what a base model knows of every candidate fact, before a benchmark is built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from ckl_bench.benchmarks.format import Probe
from ckl_bench.benchmarks.lama_ckl import SLICE, Pretest
from ckl_bench.models.base import BaseModel
from ckl_bench.models.find import find_model
from ckl_bench.scoring.engine import encode_probe, score_probes
from ckl_bench.scoring.vllm_backend import Running
from ckl_bench.scoring.vllm_engine import Engine, require_backend

SWITCH = "--pretest-backend"
AT_ONCE = {"transformers": SLICE, "vllm": 2048}  # prompts between two chances to save: an engine wants many
_ROOM = 512  # tokens of a prompt that an engine makes room for, unless one has more


@contextmanager
def pretest_models(
    names: Sequence[str],
    *,
    device: str,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    backend: str = "transformers",
    vllm: Mapping[str, Any] | None = None,
) -> Iterator[dict[str, tuple[str, Pretest]]]:
    """Name -> (revision, scorer) for the builder, while the block runs; a scorer loads its model at its first call.

    With the backend vllm an engine scores, with its arguments from `vllm`, and ends with the block. UserError for a
    model or a backend that there is none of.
    """
    require_backend(backend, vllm or {}, SWITCH)
    found = [
        find_model(name, device=device, trust_remote_code=trust_remote_code, allow_pickle=allow_pickle)
        for name in names
    ]
    if backend == "vllm":
        how: dict[str, Any] = {"options": vllm or {}, "trust_remote_code": trust_remote_code, "switch": SWITCH}
        with Running() as running:
            yield {base.name: (base.revision, _engine_scorer(running, Engine(base=base, **how))) for base in found}
    else:
        yield {base.name: (base.revision, _scorer(base)) for base in found}


def _scorer(base: BaseModel) -> Pretest:
    loaded: list[nn.Module] = []

    def scorer(probes: Sequence[Probe]) -> list[float]:
        if not loaded:
            loaded.append(base.load())
        return [found.accuracy for found in score_probes(loaded[0], base.tokenizer, probes)]

    return scorer


def _engine_scorer(running: Running, engine: Engine) -> Pretest:
    def scorer(probes: Sequence[Probe]) -> list[float]:
        base = engine.base
        longest = max(len(encode_probe(base.tokenizer, probe).ids) for probe in probes)
        room = max(longest, min(_ROOM, (base.positions or _ROOM + 1) - 1))
        return [found.accuracy for found in running.scorer(engine, room)(probes)]

    return scorer
