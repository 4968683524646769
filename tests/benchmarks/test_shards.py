"""Shards of a step are looked up by page, at a cost that does not grow with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from ckl_bench.benchmarks.temporalwiki.diffs import BATCH, DIFF
from ckl_bench.benchmarks.temporalwiki.shards import Pages, Row, Unit, run_step

PAGES = 6000


def row(page: int) -> Row:
    title = f"Town {page}"
    return {"page": page, "title": title, "revised": True, "new_article": False, "changed": [title], "unchanged": []}


def test_pages_are_found_in_few_of_the_rows_of_a_shard(tmp_path: Path) -> None:
    def units(start: int) -> Iterator[Unit]:
        for first in range(start * BATCH, PAGES, BATCH):
            yield [row(page) for page in range(first, first + BATCH)], {}

    (shard,) = run_step(tmp_path / "diff", DIFF, units).glob("part-*.parquet")
    asked = Pages(tmp_path / "diff").within(1900, 2099)
    found = duckdb.connect().execute(f"SELECT page, title FROM {asked} ORDER BY page").fetchall()
    assert found == [(page, f"Town {page}") for page in range(1900, 2100)]
    about = pq.read_metadata(shard)
    spans = [about.row_group(i).column(0).statistics for i in range(about.num_row_groups)]
    touched = [i for i, span in enumerate(spans) if span.min <= 2099 and span.max >= 1900]
    assert sum(about.row_group(i).num_rows for i in touched) <= PAGES / 3
