"""The trade-off plane: what every stack learned against what it kept, and where doing nothing stands."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ckl_bench.results.leagues import without_settings
from ckl_bench.results.terminal import gain

from .drawing import INK, Drawing, axes, style
from .figures import accuracy
from .standings import Series

Point = tuple[float, float]
_LINE = 10.0  # points between the names of two end points
_NAMED = 116.0  # points that the name of doing nothing's line takes
_WIDEST = 28  # characters of a name in the figure, where its settings may be left out


def frontier(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in both, by how much is learned, as corners of the steps beneath them."""
    best = sorted(p for p in set(points) if not any(q[0] >= p[0] and q[1] >= p[1] and q != p for q in points))
    corners = [(before[0], after[1]) for before, after in pairwise(best)]
    return [point for pair in zip(best, corners, strict=False) for point in pair] + best[-1:]


def trade_off(drawn: Sequence[Series], page: bool = False) -> Drawing:
    """Not-to-forget against to-learn accuracy, a path over epochs per stack, means over seeds.

    The star is the untrained model, (A(0), N(0)); diagonals are lines of equal Total Knowledge; a cross at an end point
    spans the seeds; the frontier is of the stacks in colour.
    """
    figure, (axis,) = axes(1, 5.2, 4.3)
    said, points = {}, []
    for one in drawn:
        learned, kept = (accuracy(one.runs, name) for name in ("to_learn", "not_to_forget"))
        x, y = learned.mean(0), kept.mean(0)
        look = style(one, page)
        (line,) = axis.plot(x, y, lw=1.4 if one.shown else 0.9, marker=".", ms=4 if one.shown else 2.5, **look)
        line.set_gid(f"path-m{one.index}")
        look |= {"linestyle": "-"}
        (end,) = axis.plot(x[-1:], y[-1:], marker="o", ms=7 if one.shown else 4.5, **look)
        end.set_gid(f"pathend-m{one.index}")
        if len(one.runs) > 1 and (one.shown or page):
            across, up = learned[:, -1], kept[:, -1]
            (cross,) = axis.plot(
                [across.min(), across.max(), math.nan, x[-1], x[-1]],
                [y[-1], y[-1], math.nan, up.min(), up.max()],
                lw=1.2,
                **look,
            )
            cross.set_gid(f"spread-m{one.index}")
        each = [
            f"{one.label}: learned {a:.3f}, kept {n:.3f} after epoch {e}"
            for e, (a, n) in enumerate(zip(x, y, strict=True))
        ]
        said[f"path-m{one.index}"] = each
        seeds = f"{len(one.runs)} seeds" if len(one.runs) > 1 else "one seed"
        worth = f"gain {gain(one.row)}, 95 %: {one.row['gain_low']:+.3f} to {one.row['gain_high']:+.3f}"
        said[f"pathend-m{one.index}"] = [f"{each[-1]} ({seeds}); {worth}"]
        points += list(zip(x, y, strict=True)) if one.shown else []
    # A method that changes the model before it learns (by quantising it) starts elsewhere than most.
    start = Counter(point for one in drawn for point in _starts(one)).most_common(1)[0][0]
    (edge,) = axis.plot(*zip(*frontier(points), strict=True), color=INK, lw=1, ls=(0, (2, 2)), zorder=2.5)
    edge.set_gid("frontier")
    (star,) = axis.plot(*start, marker="*", ms=13, color=INK, ls="", zorder=5)
    star.set_gid("star")
    _totals(axis, start, [line.get_xydata() for line in axis.lines])
    _names(figure, axis, drawn, page)
    axis.set(xlabel="to learn: accuracy", ylabel="not to forget: accuracy")
    axis.grid(visible=False)
    return Drawing(figure=figure, title="Trade-off between learning and keeping", said=said)


def _starts(one: Series) -> list[Point]:
    firsts = [run.stages[0].epochs[0].sets for run in one.runs]
    return [(sets["to_learn"].accuracy, sets["not_to_forget"].accuracy) for sets in firsts]


def _totals(axis: Any, start: Point, drawn: Sequence[Any]) -> None:
    """Limits with room for names, and lines of equal Total Knowledge, named where they leave to the right."""
    every = np.concatenate(drawn)
    right, low, high = np.nanmax(every[:, 0]), np.nanmin(every[:, 1]), np.nanmax(every[:, 1])
    pad = 0.05 * max(high - low, 0.05)
    right = start[0] + 1.55 * max(right - start[0], 0.05)
    left = start[0] - 0.04 * (right - start[0])
    bottom, top = low - pad, high + 1.3 * pad
    axis.set(xlim=(left, right), ylim=(bottom, top))
    nothing = start[0] + start[1]
    axis.fill_between([left, right], [nothing - left, nothing - right], bottom, color=INK, alpha=0.045, lw=0, zorder=0)
    axis.plot([left, right], [nothing - left, nothing - right], color=INK, alpha=0.55, lw=1, zorder=1)
    step = 0.1 if right + top - left - bottom < 2.5 else 0.2
    for number in range(math.ceil((left + bottom) / step), math.floor((right + top) / step) + 1):
        total = number * step
        if abs(total - nothing) > step / 4:
            axis.plot([left, right], [total - left, total - right], color=INK, alpha=0.13, lw=0.8, zorder=1)
        if bottom < total - right < top:
            axis.annotate(
                f"{total:.1f}",
                (right, total - right),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                alpha=0.7,
                annotation_clip=False,
            )
    axis.annotate(
        "Total Knowledge",
        (1, 1),
        xycoords="axes fraction",
        xytext=(3, 3),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        alpha=0.7,
    )
    at = _room(axis, nothing, right - 0.3 * (right - left), every)
    axis.text(
        at,
        nothing - at,
        "worse than doing nothing",
        fontsize=8,
        alpha=0.75,
        rotation=-45,
        rotation_mode="anchor",
        transform_rotates_text=True,
        ha="center",
        va="top",
        clip_on=True,
    )
    axis.annotate("doing nothing", start, xytext=(9, 2), textcoords="offset points", fontsize=8.5)


def _room(axis: Any, total: float, wished: float, drawn: Any) -> float:
    """Where on the line of a total its name fits whole: as wished, else where least is drawn."""
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    first, last = max(left, total - top), min(right, total - bottom)

    def place(x: Any, y: Any) -> Any:
        return axis.transData.transform(np.column_stack([x, y])) * 72 / axis.figure.dpi

    tries = np.array([wished, *(first + part * (last - first) for part in (0.5, 0.35, 0.65, 0.22, 0.78))])
    spots, ends = place(tries, total - tries), place(np.array([first, last]), total - np.array([first, last]))
    fits = [
        all(np.hypot(*(end - spot)) >= _NAMED / 2 for end in ends) and first < x < last
        for x, spot in zip(tries, spots, strict=True)
    ]
    if fits[0] or not any(fits):
        return float(tries[0] if fits[0] else tries[1])
    marks, along = place(drawn[:, 0], drawn[:, 1]), (ends[1] - ends[0]) / np.hypot(*(ends[1] - ends[0]))
    below = np.array([-along[1], along[0]]) * -np.sign(along[0]) * 6  # the middle of its letters is under the line
    letters = below + np.outer(np.linspace(-0.5, 0.5, 9) * _NAMED, along)
    near = [np.nanmin(np.hypot(*(marks[:, None] - (spot + letters)).T)) for spot in spots]
    free = [far if fit else -1.0 for far, fit in zip(near, fits, strict=True)]
    return float(tries[int(np.argmax(free))])


def _names(figure: Any, axis: Any, drawn: Sequence[Series], page: bool) -> None:
    """Every stack's name right of its end point, or left where there is no room, and below its line, which ends there.

    It is moved down where names of the shown ones would lie on each other.

    On a page all have one, so that those chosen later have it too.
    """
    figure.draw_without_rendering()
    ends = {
        one.index: (accuracy(one.runs, "to_learn").max(0)[-1], accuracy(one.runs, "not_to_forget").mean(0)[-1])
        for one in drawn
    }
    height = {index: axis.transData.transform(end)[1] * 72 / figure.dpi for index, end in ends.items()}
    below = math.inf
    for one in sorted(drawn, key=lambda s: (not s.shown, -height[s.index])):
        if not (one.shown or page):
            continue
        place = min(height[one.index], below - _LINE) if one.shown else height[one.index]
        text = axis.annotate(
            without_settings(one.label, [other.label for other in drawn], _WIDEST),
            ends[one.index],
            xytext=(7, place - height[one.index]),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=style(one, page)["color"],
            zorder=6,
        )
        text.set_gid(f"label-m{one.index}")
        if text.get_window_extent().x1 > axis.bbox.x1:  # it would lie on the scale: it goes to the left of its point
            text.set_ha("right")
            place = min(place, height[one.index] - _LINE)
            text.xyann = (-7, place - height[one.index])
        below = place if one.shown else below
