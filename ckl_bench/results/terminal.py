"""Rows of a leaderboard as a terminal table that fits 80 columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from ckl_bench.benchmarks.manifest import KINDS
from ckl_bench.errors import printable
from ckl_bench.results.differences import UNTRAINED
from ckl_bench.results.leagues import labels, league, unsaid, without_settings
from ckl_bench.results.rows import Row, in_months, retained_columns

Column = tuple[str, Callable[[Row], str]]
BETTER, WORSE, NEITHER = "▲", "▼", "≈"
_COLUMNS, _NARROWEST = 80, 12  # of a terminal, which a table is to fit; of the stacks' names
_SETS = 2  # that are shown of those with a name of their own
MARKS = f"{BETTER} better, {WORSE} worse, {NEITHER} neither clearly"


def gain(row: Row) -> str:
    """What a row is worth beside doing nothing, with a mark: whether its interval lies above, below, or around 0."""
    if row.get("gain") is None:
        return "-"
    return f"{row['gain']:+.3f}{verdict(row)}"


def verdict(row: Row) -> str:
    """Better or worse than doing nothing, or neither."""
    if row.get("gain") is None:
        return NEITHER
    return BETTER if row["gain_low"] > 0 else WORSE if row["gain_high"] < 0 else NEITHER


def _pair(row: Row, key: str) -> str:
    spread = row.get(f"{key}_std")
    return maybe(row, key) + (f"±{spread:.3f}".replace("±0.", "±.") if spread is not None else "")


def maybe(row: Row, key: str) -> str:
    """A number of a row to three decimals, or a dash."""
    return "-" if row.get(key) is None else f"{row[key]:.3f}"


def reproduced(row: Row) -> str:
    """How many of a row's runs somebody has made again, with the same result; a dash where it is none."""
    return f"{row['reproduced']} of {row['seeds']}" if row.get("reproduced") else "-"


LAMA_CKL: list[Column] = [
    ("gain", gain),
    ("Top\nAcc", lambda row: _pair(row, "top_acc")),
    ("epoch", lambda row: f"{row['epoch']:.1f}".removesuffix(".0")),
    ("NF\nAcc", lambda row: _pair(row, "nf_acc")),
    ("Total\nKnowledge", lambda row: _pair(row, "total_knowledge")),
    ("exact\nlearned", lambda row: maybe(row, "top_exact")),
    ("exact\nkept", lambda row: maybe(row, "nf_exact")),
]


# Eighty columns are few: what is left out, or shorter, is in the CSV and its Markdown twin.
_NARROW: list[Column] = [
    *(column for column in LAMA_CKL if column[0] in ("gain", "Top\nAcc", "NF\nAcc")),
    ("Total", lambda row: maybe(row, "total_knowledge")),
    ("exact\nnew/old", lambda row: f"{row['top_exact']:.2f}/{row['nf_exact']:.2f}".replace("0.", ".")),
]


def month_columns(rows: Sequence[Row]) -> list[Column]:
    """What the row is worth; changed and unchanged NLL of every month in one column each; the sequence's measures."""
    columns: list[Column] = [("gain", gain)]
    for month in dict.fromkeys(month for row in rows for month in row["months"]):

        def cell(row: Row, month: str = month) -> str:
            parts = [row.get(f"{month}_{part}_nll") for part in ("changed", "unchanged")]
            return "/".join("-" if part is None else f"{part:.2f}" for part in parts)

        columns.append((printable(month).replace("-", "-\n"), cell))
    return [
        *columns,
        ("avg\nNLL", lambda row: _pair(row, "avg_nll")),
        ("FUAR", lambda row: maybe(row, "fuar")),
        ("BWT", lambda row: maybe(row, "backward_transfer")),
    ]


def set_columns(rows: Sequence[Row]) -> list[Column]:
    """The accuracy on every set with a name of its own, of a benchmark of one's own."""
    shown = {f"{stage}_{name}" for row in rows for stage in row.get("months", ()) for name in KINDS["own"]}
    names = dict.fromkeys(name for row in rows for name in row.get("sets", ()) if name not in KINDS["own"])
    return [
        (printable(name).replace("_", "\n"), lambda row, name=name: maybe(row, f"{name}_accuracy"))  # type: ignore[misc]
        for name in names
        if name not in shown
    ]


def retained_columns_shown(rows: Sequence[Row]) -> list[Column]:
    """Scores on other tasks: `after (before)`, each with its standard error where it has one."""
    names = [name for name in retained_columns(rows) if not name.endswith(("_stderr", "_before"))]

    def cell(name: str) -> Callable[[Row], str]:
        def text(row: Row) -> str:
            if row.get(name) is None:
                return "-"
            errors = [row.get(f"{column}_stderr") for column in (name, f"{name}_before")]
            after, before = (f" ± {error:.3f}" if error is not None else "" for error in errors)
            return f"{row[name]:.3f}{after} ({row[f'{name}_before']:.3f}{before})"

        return text

    return [(printable(name.removeprefix("retain_")).replace("_", "\n"), cell(name)) for name in names]


def _broken(label: str, width: int) -> str:
    """A long stack over several lines, each of whole parts and settings."""
    lines = [""]
    for part in re.findall(r"[^+@,(]*[+@,(]?", label):
        if lines[-1].strip() and len(lines[-1]) + len(part) > width:
            lines.append("  ")
        lines[-1] += part
    return printable("\n".join(lines))


def leaderboard_table(kind: str, ours: Sequence[Row], committed: Sequence[Row]) -> Table:
    """This output's rows (bold, marked >) among the committed ones (dim), the best first.

    Rows of other epochs or of a `--limit` stand apart, since they are not to be measured against the rest. The measure
    that leads says what a row is worth beside doing nothing; what is worse than that is red.
    """
    every = [*ours, *committed]
    lama = not in_months(every[0])
    table = Table(
        title=Text(printable(f"{every[0]['benchmark']} · {every[0]['model']}")),
        caption=Text(_caption(ours, committed)),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
        pad_edge=False,
        show_edge=False,
    )
    table.add_column("", no_wrap=True)
    table.add_column("method", overflow="fold", min_width=_NARROWEST)
    columns = _NARROW if lama else [column for column in month_columns(every) if column[0] != "FUAR"]
    sets = set_columns(every)
    columns = [*columns, *sets[:_SETS], ("n", lambda row: str(row["seeds"]))]
    for name, _ in columns:
        table.add_column(name, justify="right", no_wrap=True)
    named = dict(zip(map(id, every), labels(every), strict=True))
    own = set(map(id, ours))
    first = league(every[0])  # the run that was asked for, and what it may be measured against

    def place(row: Row) -> tuple[bool, object, float]:
        return league(row) != first, league(row), -row["total_knowledge"] if lama else row["avg_nll"]

    all_names = list(named.values())
    room = max(_NARROWEST, _COLUMNS - 3 - sum(2 + _widest(name, cell, every) for name, cell in columns))
    before = first
    for row in sorted(every, key=place):
        if league(row) != before:
            table.add_section()
        before = league(row)
        name = without_settings(named[id(row)], all_names, room)
        name += ("*" if row["told"] else "") + ("†" if row.get("scored_only") else "")
        name += " (a try)" if row["limit"] else ""
        cells = [Text(cell(row)) for _, cell in columns]
        cells[0].stylize({BETTER: "green", WORSE: "red"}.get(verdict(row), "dim"))
        marked = bool(committed) and id(row) in own  # where all rows are this output's, a mark tells nothing apart
        mark = ">" if marked else "=" if row["method"] == UNTRAINED else ""
        table.add_row(mark, Text(_broken(name, room)), *cells, style="bold" if marked else "dim" if committed else "")
    if any(without_settings(name, all_names, room) != name for name in all_names) and isinstance(table.caption, Text):
        table.caption.append("\n(…): settings, which tell it from no other row here; the CSV has them")
    if sets[_SETS:] and isinstance(table.caption, Text):
        table.caption.append(f"\nprobe sets that are not shown: {len(sets) - _SETS}; the CSV has them")
    return table


def _caption(ours: Sequence[Row], committed: Sequence[Row]) -> str:
    """What the marks of these rows mean, those that are there."""
    every = [*ours, *committed]
    still = any(row["method"] == UNTRAINED for row in every)
    marks = {
        "> this output, the rest is committed": bool(committed),
        "= learns nothing": any(row["method"] == UNTRAINED for row in (committed or ours)),
        "--method none adds the row of what learns nothing": not still,
        "* told the answers": any(row["told"] for row in every),
        "† scored only": any(row.get("scored_only") for row in every),
    }
    parts = {
        "exact: whole answers, to learn/not to forget": not in_months(every[0]),
        "stages: NLL changed/unchanged": in_months(every[0]),
        "± over n seeds": any(row["seeds"] > 1 for row in every),
    }
    others = unsaid(every)
    lines = [
        _said(marks),
        f"gain: over what learns nothing; {MARKS} (95 %)",
        _said(parts),
        f"where a name says nothing else: {others.replace(',', ', ')}" if others else "",
    ]
    return "\n" + "\n".join(line for line in lines if line)


def _said(parts: Mapping[str, bool]) -> str:
    return " · ".join(text for text, there in parts.items() if there)


def _widest(name: str, cell: Callable[[Row], str], every: Sequence[Row]) -> int:
    return max(map(len, [*name.split("\n"), *map(cell, every)]))
