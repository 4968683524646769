"""A pair of snapshots -> which sentences of which articles are new or changed, and which are not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from .joins import ranges, stream
from .shards import Pages, Row, Unit, run_step

DIFF = pa.schema(
    [
        ("page", pa.int64()),
        ("title", pa.string()),
        ("revised", pa.bool_()),
        ("new_article", pa.bool_()),
        ("changed", pa.list_(pa.string())),
        ("unchanged", pa.list_(pa.string())),
    ]
)
BATCH = 200  # pages a unit
Numbers = np.ndarray[Any, np.dtype[np.int64]]


def diff_texts(
    connection: duckdb.DuckDBPyConnection,
    old: Sequence[Path],
    new: Sequence[Path],
    changed: Numbers,
    unchanged: Numbers,
    folder: Path,
) -> Path:
    """By page, the sentences that are new or changed, and those that are not; new articles whole.

    `changed` are the articles with another revision, `unchanged` those without, whose every sentence is unchanged.
    """
    olds, news = Pages(*old), Pages(*new)
    pages = np.union1d(changed, unchanged).astype(np.int64)
    revised = np.isin(pages, changed, assume_unique=True)

    def units(start: int) -> Iterator[Unit]:
        for number, some in enumerate(ranges(pages, BATCH)[start:], start):
            first = number * BATCH
            connection.register("wanted", pa.table({"page": some, "revised": revised[first : first + len(some)]}))
            low, high = int(some[0]), int(some[-1])
            query = f"""SELECT n.page, n.title, w.revised, o.sentences AS old, n.sentences AS new
                        FROM {news.within(low, high)} n JOIN wanted w USING (page)
                        LEFT JOIN {olds.within(low, high)} o USING (page) ORDER BY n.page"""
            yield _diff({row["page"]: row for b in stream(connection, query, BATCH) for row in b.to_pylist()})

    return run_step(folder, DIFF, units)


def _diff(by_page: dict[int, Row]) -> Unit:
    rows, counts = [], dict.fromkeys(("articles_new", "articles_changed", "articles_same_in_text"), 0)
    for row in by_page.values():  # a page that stands twice in a dump is one
        before = set(row["old"] or ()) if row["revised"] else set(row["new"])
        fresh = row["revised"] and row["old"] is None
        rows.append(
            {
                "page": row["page"],
                "title": row["title"],
                "revised": row["revised"],
                "new_article": fresh,
                "changed": [sentence for sentence in row["new"] if sentence not in before],
                "unchanged": [sentence for sentence in row["new"] if sentence in before],
            }
        )
        if row["revised"]:
            name = "articles_new" if fresh else "articles_changed" if rows[-1]["changed"] else "articles_same_in_text"
            counts[name] += 1
    counts["articles_unrevised"] = sum(not row["revised"] for row in rows)
    return pa.Table.from_pylist(rows, schema=DIFF), counts
