"""Which articles of a pair of snapshots are read: what has another revision, and a sample of what has none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from .joins import stream
from .shards import Unit, run_step, table

NEWEST = pa.schema([("page", pa.int64()), ("title", pa.string()), ("revision", pa.int64())])
Numbers = np.ndarray[Any, np.dtype[np.int64]]
_ROWS = 20_000


def newest(connection: duckdb.DuckDBPyConnection, articles: Sequence[Path], folder: Path) -> Path:
    """Every article once, by page, in its newest revision, wherever and however often its page stands in the dumps."""

    def units(start: int) -> Iterator[Unit]:
        query = f"""SELECT page, title, revision FROM
                      (SELECT * FROM {table(*articles)}
                       QUALIFY row_number() OVER (PARTITION BY page ORDER BY stamp DESC, revision DESC, redirect) = 1)
                    WHERE NOT redirect ORDER BY page"""
        for batch in islice(stream(connection, query, _ROWS), start, None):
            yield pa.Table.from_batches([batch], schema=NEWEST), {}

    return run_step(folder, NEWEST, units)


def changed_pages(connection: duckdb.DuckDBPyConnection, old: Path, new: Path) -> Numbers:
    """Sorted ids of the articles that are new or have another revision."""
    return _pages(
        connection,
        f"""SELECT n.page FROM {table(new)} n LEFT JOIN {table(old)} o USING (page)
            WHERE o.page IS NULL OR o.revision <> n.revision ORDER BY n.page""",
    )


def unchanged_pages(
    connection: duckdb.DuckDBPyConnection, old: Path, new: Path, linked: str, number: int, seed: int
) -> Numbers:
    """Sorted ids of `number` articles that have an item and no new revision, drawn by the hash of seed and page.

    `linked` is the query of all pages with an item.
    """
    return _pages(
        connection,
        f"""SELECT page FROM (
              SELECT page FROM {table(new)} n JOIN {table(old)} o USING (page) SEMI JOIN ({linked}) USING (page)
              WHERE o.revision = n.revision ORDER BY md5('{seed}:' || page), page LIMIT {number}) ORDER BY page""",
    )


def revisions_of(connection: duckdb.DuckDBPyConnection, articles: Path, pages: Numbers) -> tuple[Numbers, Numbers]:
    """Those of the pages that a snapshot has, sorted, and their revisions there."""
    connection.register("asked", pa.table({"page": pa.array(pages, type=pa.int64())}))
    found = connection.execute(
        f"SELECT page, revision FROM {table(articles)} SEMI JOIN asked USING (page) ORDER BY page"
    ).fetchnumpy()
    return np.asarray(found["page"], dtype=np.int64), np.asarray(found["revision"], dtype=np.int64)


def _pages(connection: duckdb.DuckDBPyConnection, query: str) -> Numbers:
    return np.asarray(connection.execute(query).fetchnumpy()["page"], dtype=np.int64)
