"""Rows of a leaderboard as a terminal table that fits 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

Row = dict[str, Any]


def _pair(row: Row, key: str) -> str:
    spread = row[f"{key}_std"]
    return f"{row[key]:.3f}" + (f"±{spread:.3f}".replace("±0.", "±.") if spread is not None else "")


def lama_ckl_table(ours: Sequence[Row], committed: Sequence[Row]) -> Table:
    """This output's rows (bold, marked >) among the committed ones (dim); the most Total Knowledge first."""
    first = (ours or committed)[0]
    table = Table(
        title=Text(f"{first['benchmark']} · {first['model']}"),
        caption=Text("> this output, the rest is committed · ± over n seeds · @1%: 1% forgotten"),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
        pad_edge=False,
    )
    table.add_column("", no_wrap=True)
    table.add_column("method", overflow="fold", min_width=12)
    for name in ("Top\nAcc", "epoch", "NF\nAcc", "Total\nKnowledge", "best\ntotal", "@1%", "n", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    marked = [(row, True) for row in ours] + [(row, False) for row in committed]
    for row, own in sorted(marked, key=lambda pair: -pair[0]["total_knowledge"]):
        table.add_row(
            ">" if own else "",
            Text(row["method"]),
            _pair(row, "top_acc"),
            f"{row['epoch']:.1f}".removesuffix(".0"),
            _pair(row, "nf_acc"),
            _pair(row, "total_knowledge"),
            f"{row['best_total']:.3f}",
            f"{row['learned_at_1pct']:.3f}",
            str(row["seeds"]),
            str(row["seconds"]),
            style="bold" if own else "dim",
        )
    return table
