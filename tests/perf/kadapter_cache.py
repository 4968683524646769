"""A K-Adapter epoch with its cache against one without, on smollm2-135m and lama-ckl-mini's first documents.

python tests/perf/kadapter_cache.py
"""

from __future__ import annotations

import random
import time

import torch

from ckl_bench.benchmarks.format import load_benchmark
from ckl_bench.encode import batches, encode_documents
from ckl_bench.learning.train import train_epoch
from ckl_bench.models.find import find_model
from ckl_bench_methods.kadapter import KAdapter

DOCUMENTS, EPOCHS = 16, 3


def main() -> None:
    """Seconds of every epoch on both sides, and their ratio from the second epoch on."""
    base = find_model("smollm2-135m")
    rows = list(load_benchmark("lama-ckl-mini").stages[0].documents)[:DOCUMENTS]
    documents = encode_documents(base.tokenizer, rows, 512)
    seconds: dict[bool, list[float]] = {}
    for cached in (True, False):
        torch.manual_seed(0)
        model = KAdapter().build(base.load)
        if not cached:
            model._room = 0  # type: ignore[assignment]
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
        seconds[cached] = []
        for epoch in range(EPOCHS):
            start = time.perf_counter()
            train_epoch(
                model, batches(documents, 8, random.Random(epoch)), optimizer, lambda b, nll: torch.ones_like(nll)
            )
            seconds[cached].append(time.perf_counter() - start)
        print(
            ("with the cache   " if cached else "without the cache"), " ".join(f"{s:6.2f} s" for s in seconds[cached])
        )
    with_cache, without = (sum(seconds[cached][1:]) for cached in (True, False))
    print(f"ratio from the second epoch on: {with_cache / without:.2f}")


if __name__ == "__main__":
    main()
