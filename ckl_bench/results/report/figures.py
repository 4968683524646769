"""Figures of a leaderboard over time: learning and retention over epochs, months of a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ckl_bench.records import Record
from ckl_bench.results.metrics import part_sets, temporalwiki

from .drawing import INK, Drawing, axes, band
from .months import month_name
from .standings import Series

ACCURACIES = {"to_learn": "to learn: accuracy", "not_to_forget": "not to forget: accuracy"}  # a panel each
PARTS = ("changed", "unchanged")  # a panel each


def accuracy(runs: Sequence[Record], name: str) -> np.ndarray[Any, Any]:
    """(runs, epochs + 1) mean accuracy on a probe set."""
    return np.array([[epoch.sets[name].accuracy for epoch in run.stages[0].epochs] for run in runs])


def curves(drawn: Sequence[Series], sets: Sequence[str] = tuple(ACCURACIES), page: bool = False) -> Drawing:
    """Panels of the paper's Figure 7: to-learn and not-to-forget accuracy over epochs; bands span the seeds."""
    figure, panels = axes(len(sets), 5.0, 3.5)
    said = {}
    for axis, name in zip(panels, sets, strict=True):
        for one in drawn:
            values = accuracy(one.runs, name)
            band(axis, range(values.shape[1]), values, one, f"curve-{name}", page)
            means = values.mean(0)
            lines = [f"{one.label}: {value:.3f} {ACCURACIES[name]} after epoch {e}" for e, value in enumerate(means)]
            whole = f"{one.label}, {ACCURACIES[name]} from epoch 0: {' '.join(f'{value:.3f}' for value in means)}"
            said[f"curve-{name}-m{one.index}"] = [*lines, whole]
        axis.set(xlabel="epoch", title=ACCURACIES[name])
        axis.set_ylim(bottom=0)
    return Drawing(figure=figure, title=", ".join(ACCURACIES[name] for name in sets), said=said)


def months(drawn: Sequence[Series], parts: Sequence[str] = PARTS, page: bool = False) -> Drawing:
    """NLL on every month's changed and unchanged facts right after it was learned; the base model's is dotted."""
    figure, panels = axes(len(parts), 5.0, 3.5)
    said = {}
    first = drawn[0].runs[0]
    names = [month_name(stage.name) for stage in first.stages]
    base = [first.stages[0].epochs[0].sets, *first.before.values()]
    for axis, part in zip(panels, parts, strict=True):
        for one in drawn:
            measures = [temporalwiki(run) for run in one.runs]
            values = np.array([[getattr(month, part) for month in m.months] for m in measures])
            band(axis, names, values, one, f"month-{part}", page)
            each = [f"{name} {value:.2f}" for name, value in zip(names, values.mean(0), strict=True)]
            lines = [f"{one.label}: {text} nats on {part} facts" for text in each]
            whole = f"{one.label}, nats on {part} facts: {', '.join(each)}"
            said[f"month-{part}-m{one.index}"] = [*lines, whole]
        scores = [sets[part_sets(first)[part]].nll for sets in base]
        (line,) = axis.plot(names, scores, color=INK, alpha=0.7, ls=":", marker="x", label="before training")
        line.set_gid(f"base-{part}")
        axis.set(title=f"{part} facts: NLL (nats)")
    return Drawing(figure=figure, title=", ".join(f"{part} facts: NLL" for part in parts), said=said)
