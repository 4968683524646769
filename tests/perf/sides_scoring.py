"""The sides of `sides.py` that score probes or compute a loss, at the model's own vocabulary and at one of 262k."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

PROBES = 200
SCORING = {"lama": "lama-ckl-mini", "wiki": "temporalwiki-mini", "large": "lama-ckl-mini"}
VOCABULARY = 1 << 18


def _model(kind: str, base: Any) -> Any:
    """smollm2-135m; or one of its shape with a vocabulary of 262k, of random weights."""
    import torch

    model = base.load()
    if kind != "large":
        return model
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(**model.config.to_dict() | {"vocab_size": VOCABULARY})
    del model
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def scoring(kind: str, side: str) -> tuple[float, Callable[[], object], float]:
    """Probes, and what scores them."""
    from ckl_bench.benchmarks.format import load_benchmark
    from ckl_bench.models.find import find_model
    from ckl_bench.scoring.engine import score_probes

    base = find_model("smollm2-135m")
    stages = load_benchmark(SCORING[kind]).stages
    probes = [probe for stage in stages for rows in stage.probes.values() for probe in rows][:PROBES]
    model = _model(kind, base)
    if side == "ours":
        return len(probes), lambda: score_probes(model, base.tokenizer, probes), 0.0
    from lm_eval.api.instance import Instance  # type: ignore[import-untyped]
    from lm_eval.models.huggingface import HFLM  # type: ignore[import-untyped]

    peer = HFLM(pretrained=model, tokenizer=base.tokenizer, batch_size=32)
    cut = [(probe.prompt[: probe.prompt.rindex(probe.object)].rstrip(), probe) for probe in probes]
    asked = [
        Instance("loglikelihood", {}, (prefix, probe.prompt[len(prefix) :][: 1 + len(probe.object)]), i)
        for i, (prefix, probe) in enumerate(cut)
    ]
    return len(probes), lambda: peer.loglikelihood(asked, disable_tqdm=True), 0.0


def loss(kind: str, side: str) -> tuple[float, Callable[[], object], float]:
    """Tokens, and what computes their loss and its gradient."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    from ckl_bench.models.head import Hidden, weighted_nll

    tokens = 1024
    head = nn.Linear(256, VOCABULARY, bias=False).requires_grad_(False)
    states = torch.randn(1, tokens, 256, requires_grad=True)
    rows = torch.arange(tokens)

    def ours() -> object:
        scales = torch.full((tokens,), 1 / tokens)
        return weighted_nll(Hidden(states=states, head=head), rows, rows, scales).backward()  # type: ignore[no-untyped-call]

    def full() -> object:
        return F.nll_loss(F.log_softmax(head(states[0]), -1), rows).backward()  # type: ignore[no-untyped-call]

    return tokens, ours if side == "ours" else full, 0.0
