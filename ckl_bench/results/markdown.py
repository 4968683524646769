"""Rows of a leaderboard as Markdown: one table a league, published results in one of their own."""

from __future__ import annotations

from collections.abc import Sequence

from ckl_bench.results.differences import UNTRAINED
from ckl_bench.results.leagues import labels, leagues, titles, unsaid
from ckl_bench.results.rows import Row, in_months
from ckl_bench.results.terminal import (
    BETTER,
    LAMA_CKL,
    MARKS,
    Column,
    maybe,
    month_columns,
    reproduced,
    retained_columns_shown,
    set_columns,
    verdict,
)

_NOTE = (
    "Made by `ckl-bench leaderboard` from `records/`; ± is the deviation over n seeds. **gain**: what a row is worth "
    f"beside the model that learns nothing, with its 95 % interval over probes ({MARKS}); a stack that is not clearly "
    "better is in italics. = learns nothing. * was told the answers and is not ranked."
)

_SCORED = "† scored only, by `ckl-bench score`: what such a model has read is not known, and it is not ranked."


def markdown_table(kind: str, measured: Sequence[Row], published: Sequence[Row]) -> str:
    """The Markdown twin of a CSV; `measured` rows come ranked, league by league."""
    text = [f"# {kind}", "", _NOTE, ""]
    made = leagues(measured)
    for title, rows in zip(titles(made), made, strict=True):
        note = [_SCORED, ""] if rows[0].get("scored_only") else []
        note += (
            [f"Where a name says nothing else: {_safe(unsaid(rows).replace(',', ', '))}.", ""] if unsaid(rows) else []
        )
        text += [f"## {_safe(title)}", "", *note, *_table(kind, rows, True), ""]
    if published:
        title = f"## Published: {_safe(published[0]['benchmark'])} · {_safe(published[0]['model'])}"
        text += [title, "", *_table(kind, published, False), ""]
    return "\n".join(text)


def _table(kind: str, rows: Sequence[Row], measured: bool) -> list[str]:
    wanted: list[Column] = month_columns(rows) if in_months(rows[0]) else LAMA_CKL
    named = dict(zip(map(id, rows), labels(rows) if measured else [row["method"] for row in rows], strict=True))
    columns: list[Column] = [("method", lambda row: _emphasised(row, named[id(row)], measured)), *wanted]
    if measured:
        columns = [("rank", lambda row: str(row["rank"] or "")), *columns]
        columns[2] = ("gain", _interval)
        if not in_months(rows[0]):
            columns += [("best total", lambda row: maybe(row, "best_total"))]
            columns += [("@1%", lambda row: maybe(row, "learned_at_1pct"))]
            if not rows[0].get("sets"):  # else it has a column of its own below
                columns += [("asked otherwise", lambda row: maybe(row, "otherwise_acc"))]
        columns += set_columns(rows)
        columns += retained_columns_shown(rows)
        columns += [("KL documents", lambda row: maybe(row, "kl_documents"))]
        columns += [("KL rehearsal", lambda row: maybe(row, "kl_rehearsal"))]
        columns += [
            ("reproduced", reproduced),
            ("n", lambda row: str(row["seeds"])),
            ("seconds", lambda row: str(row["seconds"])),
        ]
    # A column that no row can fill (published rows have few measures) is left out.
    columns = [(name, cell) for name, cell in columns if any(cell(row) != "-" for row in rows)]
    lines = [" | ".join(name.replace("-\n", "-").replace("\n", " ") for name, _ in columns)]
    lines.append(" | ".join("---" if name == "method" else "--:" for name, _ in columns))
    lines += [" | ".join(_safe(cell(row)) for _, cell in columns) for row in rows]
    return [f"| {line} |" for line in lines]


def _interval(row: Row) -> str:
    if row.get("gain") is None:
        return "-"
    return f"{row['gain']:+.3f} ({row['gain_low']:+.3f} to {row['gain_high']:+.3f}) {verdict(row)}"


def _emphasised(row: Row, name: str, measured: bool) -> str:
    if not measured:
        return name
    shown = name + ("\\*" if row["told"] else "") + ("†" if row.get("scored_only") else "")
    mark = "= " if row["method"] == UNTRAINED else ""
    return shown if verdict(row) == BETTER else f"{mark}*{shown}*"


def _safe(text: str) -> str:
    """Text from a record, without a meaning in Markdown or HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")
