"""DuckDB for joins: in bounded memory, spilling to disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa


def connect(work: Path, memory_mb: int) -> duckdb.DuckDBPyConnection:
    """DuckDB that spills to the work folder instead of growing beyond `memory_mb`."""
    connection = duckdb.connect()
    connection.execute(f"SET memory_limit = '{memory_mb}MB'")
    connection.execute("SET temp_directory = ?", [str(work / "spill")])
    connection.execute("SET preserve_insertion_order = false")
    connection.execute("SET threads = 2")
    return connection


def stream(connection: duckdb.DuckDBPyConnection, query: str, size: int) -> Iterator[pa.RecordBatch]:
    """A query's rows, `size` at a time (the last batch has what is left)."""
    result: Any = connection.sql(query)
    read = result.to_arrow_reader if hasattr(result, "to_arrow_reader") else result.fetch_arrow_reader
    yield from read(size)


def ranges(pages: np.ndarray[Any, np.dtype[np.int64]], size: int) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    """Sorted page ids, a few at a time: texts are joined so many pages at once, however many there are.

    (A join and sort of whole texts is what DuckDB would rather hold in memory than spill.)
    """
    return [pages[start : start + size] for start in range(0, len(pages), size)]
