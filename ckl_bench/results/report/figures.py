"""Figures of a leaderboard: learning and retention over epochs, the trade-off between the two, months of a sequence."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ckl_bench.records import Record
from ckl_bench.results.metrics import temporalwiki
from ckl_bench.storage.writing import write_bytes

# Okabe and Ito's eight, told apart by every kind of colour vision; then again with another dash.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F6A93", "#8C8C8C")
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (6, 1, 1, 1)))
INK = "#0a0b0c"  # stands for the page's own text colour, which a stylesheet chooses
MOST_SHOWN = 8
ACCURACIES = {"to_learn": "to learn: accuracy", "not_to_forget": "not to forget: accuracy"}  # a panel each
PARTS = ("changed", "unchanged")  # a panel each


@dataclass(frozen=True, kw_only=True)
class Series:
    """One row of a leaderboard as it is drawn: its runs, its style, and whether it shows before anyone asks."""

    index: int
    label: str
    runs: Sequence[Record]
    shown: bool

    @property
    def colour(self) -> str:
        return COLOURS[self.index % len(COLOURS)]

    @property
    def dash(self) -> Any:
        return DASHES[self.index // len(COLOURS) % len(DASHES)]


def series(rows: Sequence[Sequence[Record]], always: Sequence[str] = ()) -> list[Series]:
    """Groups of runs, best first, as series: of `always` and of the best as many as can be told apart are shown."""
    labels = [group[0].spec.method for group in rows]
    chosen = [i for i, label in enumerate(labels) if label in always]
    chosen += [i for i in range(len(labels)) if i not in chosen]
    shown = set(chosen[:MOST_SHOWN])
    order = sorted(range(len(labels)), key=lambda i: (i not in shown, i))  # those shown take the distinct colours
    place = {i: number for number, i in enumerate(order)}
    return [Series(index=place[i], label=labels[i], runs=rows[i], shown=i in shown) for i in range(len(labels))]


def _axes(panels: int, width: float = 4.2, height: float = 3.3) -> tuple[Any, list[Any]]:
    """A figure of panels side by side, each so many inches wide and high."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update(
        {
            **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
            "text.parse_math": False,  # a name with a $ in it is a name
            "svg.fonttype": "none",
            "svg.hashsalt": "ckl-bench",
            "font.family": "sans-serif",
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.15,
            "grid.color": INK,
            "legend.frameon": False,
        }
    )
    figure, axes = plt.subplots(1, panels, figsize=(panels * width, height), layout="constrained")
    figure.patch.set_alpha(0)
    listed = list(np.atleast_1d(axes))
    for axis in listed:
        axis.patch.set_alpha(0)
    return figure, listed


def _accuracy(runs: Sequence[Record], name: str) -> np.ndarray[Any, Any]:
    """(runs, epochs + 1) mean accuracy on a probe set."""
    return np.array([[epoch.sets[name].accuracy for epoch in run.stages[0].epochs] for run in runs])


def _band(axis: Any, x: Sequence[Any], values: np.ndarray[Any, Any], one: Series, gid: str, mark: str = "") -> None:
    """The mean over seeds as a line, their range as a band."""
    (line,) = axis.plot(
        x, values.mean(0), color=one.colour, linestyle=one.dash, lw=1.8, label=one.label, marker=mark or None, ms=4
    )
    line.set_gid(f"{gid}-m{one.index}")
    if len(values) > 1:
        band = axis.fill_between(x, values.min(0), values.max(0), color=one.colour, alpha=0.15, lw=0)
        band.set_gid(f"{gid}b-m{one.index}")


def curves(all_series: Sequence[Series], sets: Sequence[str] = tuple(ACCURACIES)) -> Any:
    """Panels of the paper's Figure 7: to-learn and not-to-forget accuracy over epochs; bands span the seeds."""
    figure, axes = _axes(len(sets))
    for axis, name in zip(axes, sets, strict=True):
        for one in all_series:
            values = _accuracy(one.runs, name)
            _band(axis, range(values.shape[1]), values, one, f"curve-{name}")
        axis.set(xlabel="epoch", title=ACCURACIES[name])
        axis.set_ylim(bottom=0)
    return figure


def trade_off(all_series: Sequence[Series]) -> Any:
    """Not-to-forget against to-learn accuracy: a trajectory over epochs per stack, and the frontier of all of them."""
    figure, (axis,) = _axes(1, 6.2, 4.4)
    points = []
    for one in all_series:
        learned, kept = _accuracy(one.runs, "to_learn").mean(0), _accuracy(one.runs, "not_to_forget").mean(0)
        (line,) = axis.plot(
            learned, kept, color=one.colour, linestyle=one.dash, lw=1.2, marker=".", ms=4, label=one.label
        )
        line.set_gid(f"path-m{one.index}")
        (end,) = axis.plot(learned[-1:], kept[-1:], color=one.colour, marker="o", ms=7)
        end.set_gid(f"pathend-m{one.index}")
        points += list(zip(learned, kept, strict=True))
    frontier = sorted(p for p in set(points) if not any(q[0] >= p[0] and q[1] >= p[1] and q != p for q in points))
    (edge,) = axis.plot(
        *zip(*frontier, strict=True), color=INK, lw=0.8, ls=(0, (2, 2)), drawstyle="steps-post", zorder=0
    )
    edge.set_gid("frontier")
    axis.annotate("frontier", frontier[len(frontier) // 2], xytext=(8, 8), textcoords="offset points", fontsize=8)
    axis.set(xlabel="to learn: accuracy", ylabel="not to forget: accuracy")
    return figure


def months(all_series: Sequence[Series], parts: Sequence[str] = PARTS) -> Any:
    """NLL on every month's changed and unchanged facts right after it was learned; the base model's in grey."""
    figure, axes = _axes(len(parts))
    for axis, part in zip(axes, parts, strict=True):
        for one in all_series:
            measures = [temporalwiki(run) for run in one.runs]
            values = np.array([[getattr(month, part) for month in m.months] for m in measures])
            _band(axis, [month.name for month in measures[0].months], values, one, f"month-{part}", "o")
        first = all_series[0].runs[0]
        base = [first.stages[0].epochs[0].sets, *first.before.values()]
        names = [stage.name for stage in first.stages]
        scores = [sets[part].nll for sets in base]
        (line,) = axis.plot(names, scores, color=INK, alpha=0.5, ls=":", marker="x", label="before training")
        line.set_gid(f"base-{part}")
        axis.set(title=f"{part} facts: NLL (nats)")
    return figure


def svg(figure: Any) -> str:
    """A figure as SVG for a page: no size of its own, text and axes in the page's colour."""
    import matplotlib.pyplot as plt

    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    drawn = text.getvalue()
    drawn = drawn[drawn.index("<svg") :].replace(INK, "currentColor")
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.S)
    return re.sub(
        r'<svg ([^>]*?)width="[^"]*"',
        r"<svg \1",
        re.sub(r'(<svg [^>]*?)height="[^"]*"', r"\1", drawn, count=1),
        count=1,
    )


def save(figure: Any, path: Path) -> Iterator[Path]:
    """A figure as PNG and SVG for a paper, black on white, with a legend."""
    import matplotlib.pyplot as plt

    marks, labels = figure.axes[-1].get_legend_handles_labels()
    figure.legend(marks, labels, fontsize=7, loc="outside lower center", ncols=2)
    figure.patch.set(alpha=1, facecolor="white")
    for kind in ("png", "svg"):
        target = path.with_suffix(f".{kind}")
        drawn = io.BytesIO()
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(drawn, format=kind, dpi=200, metadata=metadata)
        write_bytes(target, drawn.getvalue())
        yield target
    plt.close(figure)
