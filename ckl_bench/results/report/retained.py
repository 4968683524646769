"""Is the model still good? A panel of the page: other text and other tasks, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ckl_bench.results.leagues import labels
from ckl_bench.results.rows import Row
from ckl_bench.results.terminal import Column, retained_columns_shown

from .standings import League

_TEXTS = {"general": "perplexity of general English", "rehearsal": "perplexity of known facts' text"}


def retained(league: League) -> str:
    """A table of every stack's scores on what has nothing to do with the benchmark; empty where none was measured."""
    made = league.rows
    columns = [column for column in (*map(_perplexity, _TEXTS), *retained_columns_shown(made)) if _any(column, made)]
    if not columns:
        return ""
    head = "".join(f"<th>{escape(name).replace(chr(10), ' ')}</th>" for name, _ in columns)
    body = "".join(
        f"<tr><td class='method'>{escape(name)}</td>"
        + "".join(f"<td>{escape(cell(row))}</td>" for _, cell in columns)
        + "</tr>"
        for row, name in zip(made, labels(made), strict=True)
    )
    return (
        "<h3>Is the model still good?</h3><p class='note'>After the run, and in brackets before it; ± is a standard "
        "error over the samples of a task. Lower perplexity is better.</p>"
        f"<div class='scroll' tabindex='0'><table><thead><tr><th>method</th>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _perplexity(text: str) -> Column:
    def cell(row: Row) -> str:
        after, before = row.get(f"ppl_{text}"), row.get(f"ppl_{text}_before")
        return "-" if after is None or before is None else f"{after:,.2f} ({before:,.2f})"

    return _TEXTS[text], cell


def _any(column: Column, made: Sequence[Row]) -> bool:
    return any(column[1](row) != "-" for row in made)
