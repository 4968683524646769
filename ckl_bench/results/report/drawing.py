"""What all figures share: axes, the style of a stack, and how a figure becomes a file or part of a page."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from ckl_bench.storage.writing import write_bytes

from .standings import COLOURS, Series

DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (6, 1, 1, 1)))
INK = "#0a0b0c"  # stands for the colour of the text around it, which a stylesheet chooses
GREY = "#c4c8cd"  # of a stack that nobody has chosen, in a file


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure, and what is said of its marks: the id of a mark -> a text a point."""

    figure: Any
    title: str
    said: Mapping[str, Sequence[str]]


def axes(panels: int, width: float, height: float) -> tuple[Any, list[Any]]:
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
            "axes.titlesize": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.15,
            "grid.color": INK,
            "legend.frameon": False,
        }
    )
    figure, made = plt.subplots(1, panels, figsize=(panels * width, height), layout="constrained")
    figure.patch.set_alpha(0)
    listed = list(np.atleast_1d(made))
    for axis in listed:
        axis.patch.set_alpha(0)
    return figure, listed


def style(one: Series, page: bool) -> dict[str, Any]:
    """How a stack's marks are drawn; on a page their colour is the stylesheet's, by the number in their id."""
    colour = INK if page else COLOURS[one.index % len(COLOURS)] if one.shown else GREY
    dash = DASHES[one.index // len(COLOURS) % len(DASHES)] if one.shown or page else "-"
    return {"color": colour, "linestyle": dash, "zorder": 3 if one.shown else 2, "label": one.label}


def band(axis: Any, x: Sequence[Any], values: np.ndarray[Any, Any], one: Series, gid: str, page: bool) -> None:
    """The mean over seeds as a line of dots, their range as a band."""
    look = style(one, page)
    (line,) = axis.plot(x, values.mean(0), lw=1.6 if one.shown else 1, marker=".", ms=4, **look)
    line.set_gid(f"{gid}-m{one.index}")
    if len(values) > 1 and (one.shown or page):
        area = axis.fill_between(x, values.min(0), values.max(0), color=look["color"], alpha=0.15, lw=0)
        area.set_gid(f"{gid}b-m{one.index}")


def svg(drawing: Drawing, drawn: Sequence[Series]) -> str:
    """A figure as SVG for a page: of no size of its own, text in the page's colour, marks that can be focused and say
    their values; those of stacks that are not chosen have the class `off`."""
    text = _saved(drawing.figure, "svg").decode()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    root, rest = text.split(">", 1)
    root = re.sub(r' (width|height)="[^"]*"', "", root)
    shown = {one.index: one.shown for one in drawn}

    def marked(found: re.Match[str]) -> str:
        gid, off = found[1], "" if shown[int(found[2])] else ' class="off"'
        if gid not in drawing.said:
            return f'<g id="{gid}"{off}>'
        said = [escape(line) for line in drawing.said[gid]]
        points = "\n".join(said)
        focus = "-1" if off else "0"
        return (
            f'<g id="{gid}"{off} tabindex="{focus}" role="img" aria-label="{said[-1]}" data-said="{points}">'
            f"<title>{said[-1]}</title>"
        )

    rest = re.sub(r'<g id="([^"]*-m(\d+))">', marked, rest)
    return f'{root} role="group" aria-label="{escape(drawing.title)}">{rest}'


def save(drawing: Drawing, path: Path, legend: bool, made_of: str) -> Iterator[Path]:
    """A figure as PNG and SVG for a paper, on white; `legend` for figures that do not name their lines themselves.

    What it is `made_of` stands in its metadata (Description).
    """
    figure = drawing.figure
    if legend:
        every = zip(*figure.axes[-1].get_legend_handles_labels(), strict=True)
        named = [(mark, label) for mark, label in every if mark.get_color() != GREY]
        figure.legend(*zip(*named, strict=True), fontsize=7, loc="outside lower center", ncols=2)
    figure.patch.set(alpha=1, facecolor="white")
    for kind in ("png", "svg"):
        target = path.with_suffix(f".{kind}")
        write_bytes(target, _saved(figure, kind, made_of))
        yield target


def _saved(figure: Any, kind: str, made_of: str = "") -> bytes:
    import matplotlib.pyplot as plt

    file = io.BytesIO()
    metadata: dict[str, str | None] = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    if made_of:
        metadata["Description"] = made_of
    figure.savefig(file, format=kind, dpi=200, metadata=metadata)
    plt.close(figure)
    return file.getvalue()
