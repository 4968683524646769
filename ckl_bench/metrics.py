"""Metrics of a finished run, as pure functions of its record (design: LAMA-ckl's published and unbiased measures)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ckl_bench.records import Record


@dataclass(frozen=True, kw_only=True)
class LamaCkl:
    """LAMA-ckl's measures of one run. A(e), N(e): mean accuracy on to_learn and not_to_forget after epoch e.

    `top_acc`, `epoch`, `nf_acc` and `total_knowledge` are the published definition, which picks the epoch on the
    evaluated set; the rest does not.
    """

    top_acc: float  # max A(e)
    epoch: int  # the first e that reaches it
    nf_acc: float  # N(epoch)
    total_knowledge: float  # top_acc + nf_acc
    best_total: float  # max over e of A(e) + N(e)
    best_total_epoch: int
    learned_at_1pct: float  # the best A(e) among epochs with N(e) >= N(0) - 0.01
    forgetting: float  # N(0) - N(epoch)
    final_to_learn: float  # A(E)
    final_not_to_forget: float  # N(E)


def lama_ckl(record: Record) -> LamaCkl:
    """The measures of a run on a benchmark of kind lama-ckl."""
    epochs = record.stages[0].epochs
    learned = [epoch.sets["to_learn"].accuracy for epoch in epochs]
    kept = [epoch.sets["not_to_forget"].accuracy for epoch in epochs]
    top = max(range(len(epochs)), key=lambda e: (learned[e], -e))
    best = max(range(len(epochs)), key=lambda e: (learned[e] + kept[e], -e))
    return LamaCkl(
        top_acc=learned[top],
        epoch=epochs[top].epoch,
        nf_acc=kept[top],
        total_knowledge=learned[top] + kept[top],
        best_total=learned[best] + kept[best],
        best_total_epoch=epochs[best].epoch,
        learned_at_1pct=max(a for a, n in zip(learned, kept, strict=True) if n >= kept[0] - 0.01),
        forgetting=kept[0] - kept[top],
        final_to_learn=learned[-1],
        final_not_to_forget=kept[-1],
    )


def bootstrap_interval(values: Sequence[float], *, seed: int = 0, resamples: int = 2000) -> tuple[float, float]:
    """95 % percentile interval of the mean over probes (Efron 1979), from a fixed seed."""
    data = np.asarray(values, dtype=np.float64)
    picks = np.random.default_rng(seed).integers(0, len(data), size=(resamples, len(data)))
    low, high = np.quantile(data[picks].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)
