"""Records -> tables: one row per stack, model, benchmark hash and settings; a pure function of the records."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ckl_bench.records import Record
from ckl_bench.results.leagues import league, leagues, question, ranks, untrained
from ckl_bench.results.markdown import markdown_table
from ckl_bench.results.own import best_first, own_columns, own_row
from ckl_bench.results.published import published_rows
from ckl_bench.results.reproduced import read_marks
from ckl_bench.results.rows import (
    COST,
    LAMA_CKL_COLUMNS,
    PREPARATION,
    Row,
    lama_ckl_row,
    prepared_files,
    retained_columns,
    temporalwiki_columns,
    temporalwiki_row,
)
from ckl_bench.storage.locks import locked
from ckl_bench.storage.writing import write_files

# Columns of whole numbers, which stay whole beside rows that lack them.
_WHOLE = {"reproduced", "seeds", "epochs", "batch_size", "limit", "max_tokens", "rank", "seconds", *COST, *PREPARATION}


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
    row: Callable[[Sequence[Record], Mapping[str, int], Sequence[Record]], Row]
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
    "own": Board(file="own.csv", row=own_row, columns=own_columns, best_first=best_first),
}


def rows(
    records: Iterable[Record], kind: str = "lama-ckl", beside: Iterable[Record] = (), *, each_run: bool = False
) -> list[Row]:
    """The rows of a kind of benchmark, league by league (see `leagues`), the best first.

    What a row is worth is measured against the run of the method that does nothing, be it among the records `beside`.
    With `each_run` every run has a row, also where runs differ in their seed alone.
    """
    board, every = BOARDS[kind], list(records)
    runs = [group for group in groups(every) if group[0].spec.benchmark_kind == kind]
    if each_run:
        runs = [[record] for group in runs for record in group]
    users = Counter(file for group in runs for record in group for file in prepared_files(record))
    still = untrained([*beside, *every])
    made = []
    for group in runs:
        made.append(board.row(group, users, still.get(question(group[0].spec), ())))
    made.sort(key=lambda r: (*league(r), round(board.best_first(r), 4), r["method"], r["run_ids"]))
    for members in leagues(made):
        for row, rank in zip(members, ranks(members, board.best_first), strict=True):
            row |= {"rank": rank, "source": "scored only" if row.get("scored_only") else "measured"}
    return made


def _cell(value: object) -> object:
    """Text that a spreadsheet would take for a formula is defused with an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value


def table(records: Iterable[Record], kind: str, *, each_run: bool = False) -> str | None:
    """The CSV of a kind of benchmark, of measured rows alone (as `rows` has them); None where no run is finished."""
    made = rows(records, kind, each_run=each_run)
    return _csv([row | {"reproduced": 0} for row in made], _columns(BOARDS[kind], made)) if made else None


def tables(records: Iterable[Record], folder: Path | None = None) -> dict[str, str]:
    """File name -> text: a CSV and its Markdown twin for every kind of benchmark that has a finished run.

    Published reference rows of `folder` follow the measured ones; `reproduced` counts a row's runs with a mark there.
    """
    done = list(records)
    marks = read_marks(folder) if folder else {}
    texts = {}
    for kind, board in BOARDS.items():
        measured = rows(done, kind)
        for row in measured:
            row["reproduced"] = sum(run_id in marks for run_id in row["run_ids"].split())
        published = published_rows(folder, kind) if folder else []
        if measured:
            texts[board.file.replace(".csv", ".md")] = markdown_table(kind, measured, published)
            # Last, so that a CSV that names a run says that its twin does too.
            texts[board.file] = _csv([*measured, *published], _columns(board, [*measured, *published]))
    return texts


def _columns(board: Board, made: Sequence[Row]) -> list[str]:
    return [*board.columns(made), *retained_columns(made)]


def _csv(made: Sequence[Row], columns: list[str]) -> str:
    import pandas as pd

    frame = pd.DataFrame([[_cell(row.get(c)) for c in columns] for row in made], columns=columns)
    for name in _WHOLE & set(columns):
        frame[name] = frame[name].astype("Int64")
    if "epoch" in columns:
        epochs = frame["epoch"]  # none of rows in sequence
        frame["epoch"] = (epochs.astype(float) if epochs.isna().any() else epochs).round(2)
    text = io.StringIO()
    frame.to_csv(text, index=False, float_format=_number, lineterminator="\n")
    return text.getvalue()


def _number(value: Any) -> str:
    """Four decimals, or three significant digits for what is smaller than that (learning rates)."""
    return f"{value:.4f}" if value == 0 or abs(value) >= 1e-3 else f"{value:.3g}"


def tables_locked(folder: Path) -> AbstractContextManager[None]:
    """One process at a time reads all records of a folder and writes its tables; the others wait for their turn."""
    return locked(folder / ".tables.lock", f"the writing of tables in {folder}", wait=True)


def write_tables(folder: Path, records: Iterable[Record]) -> list[Path]:
    """Write every table of the records into `folder`; returns the files."""
    contents = {folder / name: text.encode() for name, text in tables(records, folder).items()}
    write_files(contents)
    return sorted(contents)


def first_difference(folder: Path, records: Iterable[Record]) -> str | None:
    """The first place where a table in `folder` is not what the records give, in a sentence; None where all agree."""
    expected = tables(records, folder)
    files = {name for board in BOARDS.values() for name in (board.file, board.file.replace(".csv", ".md"))}
    for name in sorted({*expected, *(file for file in files if (folder / file).exists())}):
        path = folder / name
        have = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        want = expected.get(name, "").splitlines()
        for number in range(max(len(have), len(want))):
            left = have[number] if number < len(have) else "(nothing)"
            right = want[number] if number < len(want) else "(nothing)"
            if left != right:
                differing = (i for i, pair in enumerate(zip(left, right, strict=False)) if len({*pair}) > 1)
                start = max(0, next(differing, min(len(left), len(right))) - 30)
                says, give = (repr(line[start : start + 60]) for line in (left, right))
                return f"{path}:{number + 1}, from character {start + 1}: the file says {says}, the records give {give}"
    return None
