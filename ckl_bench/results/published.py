"""Published results as reference rows of a table: `published.toml` in a folder of leaderboards; never ranked."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from ckl_bench.errors import UserError
from ckl_bench.results.rows import LAMA_CKL_COLUMNS, Row

_NAMES = ("method", "model", "benchmark")


def published_rows(folder: Path, kind: str) -> list[Row]:
    """The reference rows of one kind of benchmark, in the order they stand in the file; none where there is no file.

    A month's average NLL and the mean over months are computed. Raises UserError for a file that is no TOML, a row
    without method, model and benchmark, and a value that is not a finite number of a known column.
    """
    path = folder / "published.toml"
    if not path.is_file():
        return []
    try:
        listed = tomllib.loads(path.read_text(encoding="utf-8")).get(kind, [])
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {error}; restore or correct it") from error
    if not isinstance(listed, list):
        raise UserError(f"{path}: expected rows under [[{kind}]]")
    return [_row(given, kind, f"{path}, row {number} of {kind}") for number, given in enumerate(listed, 1)]


def _row(given: Any, kind: str, where: str) -> Row:
    if not isinstance(given, Mapping) or not all(isinstance(given.get(name), str) for name in _NAMES):
        raise UserError(f"{where}: expected texts {', '.join(_NAMES)}")
    row: Row = {"source": "published", "months": [], **given}
    for name, value in given.items():
        if name not in _NAMES:
            _check(name, value, kind, where)
    for name in given:
        if name.endswith("_changed_nll"):
            month = name.removesuffix("_changed_nll")
            if f"{month}_unchanged_nll" not in given:
                raise UserError(f"{where}: {month}_unchanged_nll is missing")
            row["months"].append(month)
            row[f"{month}_avg_nll"] = (row[name] + row[f"{month}_unchanged_nll"]) / 2
    if row["months"]:
        row["avg_nll"] = mean(row[f"{month}_avg_nll"] for month in row["months"])
    return row


def _check(name: str, value: object, kind: str, where: str) -> None:
    """UserError where a published value is of no column, or no finite number."""
    known = name in LAMA_CKL_COLUMNS if kind == "lama-ckl" else name.endswith(("_changed_nll", "_unchanged_nll"))
    if not known:
        raise UserError(f"{where}: unknown column '{name}'")
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise UserError(f"{where}: {name} is {value!r}, expected a number")
