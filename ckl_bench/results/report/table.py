"""A league's rows as a table of the page: what tells at a glance first, costs and the rest folded away."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ckl_bench.results.differences import UNTRAINED
from ckl_bench.results.leagues import labels, unsaid
from ckl_bench.results.rows import Row, in_months
from ckl_bench.results.terminal import (
    BETTER,
    LAMA_CKL,
    MARKS,
    WORSE,
    Column,
    maybe,
    month_columns,
    reproduced,
    set_columns,
    verdict,
)

from .months import month_name
from .standings import League

_FIRST = ("gain", "Top\nAcc", "NF\nAcc", "exact\nlearned", "exact\nkept", "avg\nNLL", "FUAR", "BWT")
_VERDICTS = {BETTER: "better", WORSE: "worse"}


def table(league: League, number: int) -> str:
    """The leaderboard; every heading is a button that sorts by it, a box shows costs and the rest."""
    made = league.rows
    known, sets = month_columns(made) if in_months(made[0]) else LAMA_CKL, set_columns(made)
    names = dict(zip(map(id, made), labels(made), strict=True))
    first: list[Column] = [
        ("rank", lambda row: str(row["rank"] or "")),
        ("method", lambda row: names[id(row)] + ("*" if row["told"] else "")),
        *(column for column in known if column[0] in _FIRST),
        *sets,
        ("n", lambda row: str(row["seeds"])),
    ]
    first = [column for column in first if column[0] == "rank" or any(column[1](row) not in ("-", "") for row in made)]
    months = {name.replace("-\n", "-") for row in made for name in row.get("months", [])}
    rest = [(month_name(name.replace("-\n", "-")), cell) for name, cell in known if name.replace("-\n", "-") in months]
    others = [column for column in known if column[0] not in _FIRST and column[0].replace("-\n", "-") not in months]
    columns = [
        *((*column, "") for column in first),
        *((*column, "month") for column in rest),
        *((*column, "more") for column in [*others, *_costs(made)]),
    ]
    headings = [(escape(name).replace("\n", " <br>"), kind) for name, _, kind in columns]
    head = "".join(
        f'<th class="{kind}" aria-sort="none"><button type="button">{name}</button></th>' for name, kind in headings
    )
    colour = {id(one.row): f' style="--c:var(--m{one.index})"' for one in league.series}
    lines = []
    for row in made:
        cells = []
        for name, cell, kind in columns:
            text = (
                escape(cell(row)).replace("+", "+<wbr>").replace("(", "<wbr>(").replace("@", "<wbr>@")
                if name == "method"
                else escape(cell(row))
            )
            if name == "method":
                text = f"<i{colour.get(id(row), '')}></i>{text}"
            if name == "gain":
                kind = _VERDICTS.get(verdict(row), "neither")
                text += _interval(row)
            cells.append(f'<td class="{kind}">{text.replace("±", "<small>±", 1) + "</small>" * ("±" in text)}</td>')
        dull = " ".join(filter(None, ("single" if row["seeds"] == 1 else "", "" if verdict(row) == BETTER else "dull")))
        lines.append(f'<tr class="{dull}">{"".join(cells)}</tr>')
    return (
        f"<h3>Leaderboard</h3><p class='note'>{_note(league)}</p>"
        f'<input type="checkbox" class="fold" id="more-{number}"><label for="more-{number}">costs and the rest</label>'
        "<div class='scroll' tabindex='0'><table class='board'>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _interval(row: Row) -> str:
    """Of the gain, 95 % over probes."""
    if row.get("gain") is None:
        return ""
    return f'<small class="interval">{row["gain_low"]:+.2f} to {row["gain_high"]:+.2f}</small>'


def _costs(made: Sequence[Row]) -> list[Column]:
    """What a row cost, how far the model moved, and the same facts asked otherwise.

    Columns that no row can fill are left out.
    """
    columns: list[Column] = [
        ("asked\notherwise", _otherwise),
        ("KL\ndocuments", lambda row: maybe(row, "kl_documents")),
        ("KL\nrehearsal", lambda row: maybe(row, "kl_rehearsal")),
        ("reproduced", reproduced),
        ("trained", lambda row: f"{row['trainable_parameters']:,}"),
        ("tokens", lambda row: f"{row['train_tokens']:,}"),
        ("tok/s", lambda row: f"{row['train_tokens_per_second']:,}"),
        ("MB", lambda row: f"{row['peak_memory_mb']:,}"),
        ("seconds", lambda row: f"{row['seconds']:,}"),
    ]
    if any("prepare_seconds" in row for row in made):  # what was made before the run, such as φ
        columns += [
            ("with φ", lambda row: f"{row.get('seconds_and_prepare', row['seconds']):,}"),
            ("with a\nshare of φ", lambda row: f"{row.get('seconds_amortised', row['seconds']):,}"),
        ]
    return [(name, cell) for name, cell in columns if any(cell(row) != "-" for row in made)]


def _otherwise(row: Row) -> str:
    return "-" if row.get("sets") else maybe(row, "otherwise_acc")  # else the set has a column of its own already


def _note(league: League) -> str:
    made = league.rows
    parts = [f"gain: over the model that learns nothing, {MARKS} (95 % over probes)."]
    if any(row["seeds"] == 1 for row in made):
        parts.append("Pale: one seed only (n = 1).")
    if any(verdict(row) != BETTER for row in made):
        parts.append("Italics: not clearly better than doing nothing.")
    if any(row["told"] for row in made):
        parts.append("* was told the answers, and is not ranked.")
    if any(row["method"] == UNTRAINED for row in made):
        parts.append(f"{UNTRAINED}: the model as it was.")
    if unsaid(made):
        parts.append(f"Where a name says nothing else: {unsaid(made).replace(',', ', ')}.")
    if in_months(made[0]):
        parts.append("Months: NLL on changed/unchanged facts.")
    return escape(" ".join(parts))
