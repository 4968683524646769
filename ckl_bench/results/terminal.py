"""Rows of a leaderboard as a terminal table that fits 80 columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from ckl_bench.errors import printable
from ckl_bench.results.rows import Row

Column = tuple[str, Callable[[Row], str]]


def _pair(row: Row, key: str) -> str:
    spread = row.get(f"{key}_std")
    return _maybe(row, key) + (f"±{spread:.3f}".replace("±0.", "±.") if spread is not None else "")


def _maybe(row: Row, key: str) -> str:
    return "-" if row.get(key) is None else f"{row[key]:.3f}"


LAMA_CKL: list[Column] = [
    ("Top\nAcc", lambda row: _pair(row, "top_acc")),
    ("epoch", lambda row: f"{row['epoch']:.1f}".removesuffix(".0")),
    ("NF\nAcc", lambda row: _pair(row, "nf_acc")),
    ("Total\nKnowledge", lambda row: _pair(row, "total_knowledge")),
    ("best\ntotal", lambda row: _maybe(row, "best_total")),
    ("@1%", lambda row: _maybe(row, "learned_at_1pct")),
]


def month_columns(rows: Sequence[Row]) -> list[Column]:
    """Changed and unchanged NLL of every month in one column each, then the sequence's measures."""
    columns: list[Column] = []
    for month in dict.fromkeys(month for row in rows for month in row["months"]):

        def cell(row: Row, month: str = month) -> str:
            parts = [row.get(f"{month}_{part}_nll") for part in ("changed", "unchanged")]
            return "/".join("-" if part is None else f"{part:.2f}" for part in parts)

        columns.append((printable(month).replace("-", "-\n"), cell))
    return [
        *columns,
        ("avg\nNLL", lambda row: _pair(row, "avg_nll")),
        ("FUAR", lambda row: _maybe(row, "fuar")),
        ("BWT", lambda row: _maybe(row, "backward_transfer")),
    ]


def _broken(label: str, width: int = 20) -> str:
    """A long stack over several lines, each of whole parts."""
    lines = [""]
    for part in re.findall(r"[^+]+\+?", label):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("  ")
        lines[-1] += part
    return printable("\n".join(lines))


def leaderboard_table(kind: str, ours: Sequence[Row], committed: Sequence[Row]) -> Table:
    """This output's rows (bold, marked >) among the committed ones (dim), the best first."""
    first = (ours or committed)[0]
    lama = kind == "lama-ckl"
    note = "" if lama else " · months: NLL changed/unchanged"
    table = Table(
        title=Text(printable(f"{first['benchmark']} · {first['model']}")),
        caption=Text(f"> this output, the rest is committed · ± over n seeds{note}"),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
        pad_edge=False,
    )
    table.add_column("", no_wrap=True)
    table.add_column("method", overflow="fold", min_width=12)
    # What is not of the published definition is in the CSV; eighty columns are few.
    columns = LAMA_CKL[:4] if lama else month_columns([*ours, *committed])
    columns = [*columns, ("n", lambda row: str(row["seeds"]))]
    if lama:
        columns.append(("seconds", lambda row: str(row["seconds"])))
    for name, _ in columns:
        table.add_column(name, justify="right", no_wrap=True)
    marked = [(row, True) for row in ours] + [(row, False) for row in committed]
    for row, own in sorted(marked, key=lambda pair: -pair[0]["total_knowledge"] if lama else pair[0]["avg_nll"]):
        cells = [cell(row) for _, cell in columns]
        table.add_row(">" if own else "", Text(_broken(row["method"])), *cells, style="bold" if own else "dim")
    return table
