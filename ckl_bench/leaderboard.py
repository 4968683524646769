"""Records -> tables: one row per stack, model, benchmark hash and settings; a pure function of the records."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ckl_bench.files import write_text
from ckl_bench.records import Record
from ckl_bench.rows import LAMA_CKL_COLUMNS, Row, lama_ckl_row, temporalwiki_columns, temporalwiki_row


def groups(records: Iterable[Record]) -> list[list[Record]]:
    """Finished runs that differ in nothing but their seed, together; failed ones are left out."""
    by_settings: dict[str, list[Record]] = {}
    for record in records:
        if record.status == "done":
            by_settings.setdefault(record.spec.settings, []).append(record)
    return [sorted(group, key=lambda r: r.spec.seed) for group in by_settings.values()]


@dataclass(frozen=True, kw_only=True)
class Board:
    """How the table of a kind of benchmark is made: its file, its row, its columns, and what ranks it."""

    file: str
    row: Callable[[Sequence[Record]], Row]
    columns: Callable[[Sequence[Row]], Sequence[str]]
    best_first: Callable[[Row], float]


BOARDS = {
    "lama-ckl": Board(
        file="lama-ckl.csv",
        row=lama_ckl_row,
        columns=lambda rows: LAMA_CKL_COLUMNS,
        best_first=lambda row: -row["total_knowledge"],
    ),
    "temporalwiki": Board(
        file="temporalwiki.csv",
        row=temporalwiki_row,
        columns=temporalwiki_columns,
        best_first=lambda row: row["avg_nll"],
    ),
}


def rows(records: Iterable[Record], kind: str = "lama-ckl") -> list[Row]:
    """The rows of a kind of benchmark: by benchmark and model, then the best first."""
    board = BOARDS[kind]
    made = [board.row(group) for group in groups(records) if group[0].spec.benchmark_kind == kind]
    return sorted(
        made,
        key=lambda r: (
            r["benchmark"],
            r["benchmark_hash"],
            r["model"],
            r["model_revision"],
            round(board.best_first(r), 4),
            r["method"],
            r["run_ids"],
        ),
    )


def _cell(value: object) -> object:
    """Text that a spreadsheet would take for a formula is defused with an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value


def csv_tables(records: Iterable[Record]) -> dict[str, str]:
    """File name -> CSV text, for every kind of benchmark that has a finished run."""
    done = list(records)
    tables = {}
    for kind, board in BOARDS.items():
        made = rows(done, kind)
        if made:
            columns = list(board.columns(made))
            frame = pd.DataFrame([[_cell(row.get(c)) for c in columns] for row in made], columns=columns)
            if "epoch" in columns:
                frame["epoch"] = frame["epoch"].round(2)
            text = io.StringIO()
            frame.to_csv(text, index=False, float_format=_number, lineterminator="\n")
            tables[board.file] = text.getvalue()
    return tables


def _number(value: Any) -> str:
    """Four decimals, or three significant digits for what is smaller than that (learning rates)."""
    return f"{value:.4f}" if value == 0 or abs(value) >= 1e-3 else f"{value:.3g}"


def write_tables(folder: Path, records: Iterable[Record]) -> list[Path]:
    """Write every table of the records into `folder`; returns the files."""
    paths = []
    for name, text in csv_tables(records).items():
        write_text(folder / name, text)
        paths.append(folder / name)
    return paths


def first_difference(folder: Path, records: Iterable[Record]) -> str | None:
    """The first place where a CSV in `folder` is not what the records give, in a sentence; None where all agree."""
    expected = csv_tables(records)
    for name in sorted({*expected, *(board.file for board in BOARDS.values() if (folder / board.file).exists())}):
        path = folder / name
        have = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        want = expected.get(name, "").splitlines()
        for number in range(max(len(have), len(want))):
            left = have[number] if number < len(have) else "(nothing)"
            right = want[number] if number < len(want) else "(nothing)"
            if left != right:
                return f"{path}:{number + 1}: the file says {left!r}, the records give {right!r}"
    return None
