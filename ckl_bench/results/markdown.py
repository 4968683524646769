"""Rows of a leaderboard as Markdown: one table a benchmark and model, published results in one of their own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from ckl_bench.results.rows import Row
from ckl_bench.results.terminal import LAMA_CKL, Column, month_columns


def markdown_table(kind: str, measured: Sequence[Row], published: Sequence[Row]) -> str:
    """The Markdown twin of a CSV; `measured` rows come ranked, by benchmark and model."""
    text = [f"# {kind}", "", "Made by `ckl-bench leaderboard` from `records/`; ± is the deviation over n seeds.", ""]
    for _, group in groupby(measured, key=lambda row: (row["benchmark_hash"], row["model_revision"], row["limit"])):
        rows = list(group)
        limit = f", first {rows[0]['limit']} of every set" if rows[0]["limit"] else ""
        text += [
            f"## {_safe(rows[0]['benchmark'])} · {_safe(rows[0]['model'])}{limit}",
            "",
            *_table(kind, rows, True),
            "",
        ]
    if published:
        title = f"## Published: {_safe(published[0]['benchmark'])} · {_safe(published[0]['model'])}"
        text += [title, "", *_table(kind, published, False), ""]
    return "\n".join(text)


def _table(kind: str, rows: Sequence[Row], measured: bool) -> list[str]:
    wanted: list[Column] = LAMA_CKL if kind == "lama-ckl" else month_columns(rows)
    columns: list[Column] = [("method", lambda row: row["method"]), *wanted]
    if measured:
        columns = [("rank", lambda row: str(row["rank"])), *columns]
        columns += [("n", lambda row: str(row["seeds"])), ("seconds", lambda row: str(row["seconds"]))]
    # A column that no row can fill (published rows have few measures) is left out.
    columns = [(name, cell) for name, cell in columns if any(cell(row) != "-" for row in rows)]
    lines = [" | ".join(name.replace("-\n", "-").replace("\n", " ") for name, _ in columns)]
    lines.append(" | ".join("---" if name == "method" else "--:" for name, _ in columns))
    lines += [" | ".join(_safe(cell(row)) for _, cell in columns) for row in rows]
    return [f"| {line} |" for line in lines]


def _safe(text: str) -> str:
    """Text from a record, without a meaning in Markdown or HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")
