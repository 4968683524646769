"""The tables of README and docs are what the committed records give."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ckl_bench.benchmarks.format import load_benchmark
from ckl_bench.storage.files import leaderboards_dir
from helpers.readme import OF_RECORDS, README, RESULTS, block, cells, printed, results

ROUNDING = 6e-4  # three decimals here, four in the CSV


def test_the_first_table_is_what_the_command_prints() -> None:
    assert block(README.read_text(encoding="utf-8")) == printed(), "make leaderboard writes it anew"


def measured(kind: str, benchmark: str) -> dict[str, dict[str, str]]:
    """The rows of a committed CSV, of a benchmark as it is now, by method."""
    now = load_benchmark(benchmark).hash[:16]
    with open(leaderboards_dir() / f"{kind}.csv", newline="") as file:
        return {row["method"]: row for row in csv.DictReader(file) if row["benchmark_hash"] == now}


def rows_of(path: Path, header: str) -> Iterator[tuple[str, list[str]]]:
    """(stack, other cells) of the rows of the Markdown table with that header."""
    for line in path.read_text(encoding="utf-8").split(header)[1].splitlines()[2:]:
        if not line.startswith("|"):
            return
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        yield name.strip("`"), cells


def numbers(text: str) -> list[float]:
    return [float(found) for found in re.findall(r"[-+]?\d+(?:\.\d+)?", text)]


def test_the_results_are_those_of_the_records_and_each_is_put_into_words() -> None:
    have = block(RESULTS.read_text(encoding="utf-8"), OF_RECORDS)
    assert have == results(have), "make leaderboard writes it anew"
    assert [row[0] for row in map(cells, have.splitlines()[2:]) if not row[-1]] == []


def test_the_months_are_those_of_the_records() -> None:
    rows = measured("temporalwiki", "temporalwiki-mini")
    shown = dict(rows_of(RESULTS, "| method | gain |"))
    assert set(shown) == set(rows)
    for name, (gain, *_, average, fuar, backward) in shown.items():
        for text, column in ((gain, "gain"), (average, "avg_nll"), (fuar, "fuar"), (backward, "backward_transfer")):
            expected = [float(rows[name][column])] if rows[name][column] else []
            assert numbers(text) == pytest.approx(expected, abs=ROUNDING), (name, column)
