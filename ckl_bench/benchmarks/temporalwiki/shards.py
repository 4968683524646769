"""A step of a build: units of work -> a folder of Parquet shards; stopped anywhere, it goes on behind the last one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ckl_bench.errors import UserError
from ckl_bench.files import write_bytes

Row = dict[str, Any]
Unit = tuple[list[Row], Mapping[str, int]]  # rows, and counts of what was seen and done
_ROWS = 20_000  # rows a shard, about
_COUNTS = b"counts"


def run_step(folder: Path, schema: pa.Schema, units: Callable[[int], Iterator[Unit]], rows: int = _ROWS) -> Path:
    """Write what `units(start)` yields, beginning behind the `start` units that are there already; returns `folder`.

    Units must come in the same order every time. Counts travel in the shards, so that they too survive a stop.
    """
    if (folder / "done").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    first = start = max((int(path.stem.split("-")[2]) for path in _shards(folder)), default=0)
    held: list[Row] = []
    counts: dict[str, int] = {}
    for number, (own, seen) in enumerate(units(start), start + 1):
        held += own
        for name, value in seen.items():
            counts[name] = counts.get(name, 0) + value
        if len(held) >= rows:
            _write(folder / f"part-{first:09d}-{number:09d}.parquet", held, counts, schema)
            held, counts, first = [], {}, number
        start = number
    if held or counts or first == 0:
        _write(folder / f"part-{first:09d}-{start:09d}.parquet", held, counts, schema)
    write_bytes(folder / "done", b"")
    return folder


def _write(path: Path, rows: list[Row], counts: Mapping[str, int], schema: pa.Schema) -> None:
    table = pa.Table.from_pylist(rows, schema=schema.with_metadata({_COUNTS: json.dumps(counts).encode()}))
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        pq.write_table(table, temporary, compression="zstd")
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; free some space, then run it again"
        ) from error


def _shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


def counts_of(folder: Path) -> dict[str, int]:
    """What a finished step counted."""
    total: dict[str, int] = {}
    for path in _shards(folder):
        for name, value in json.loads(pq.read_schema(path).metadata[_COUNTS]).items():
            total[name] = total.get(name, 0) + value
    return total


def table(folder: Path) -> str:
    """A step's rows, as DuckDB names them in a FROM clause."""
    where = str(folder).replace("'", "''")
    return f"read_parquet('{where}/part-*.parquet')"


def batches(folder: Path, size: int = 500) -> Iterator[list[Row]]:
    """A step's rows in order, a few at a time."""
    for path in _shards(folder):
        for batch in pq.ParquetFile(path).iter_batches(batch_size=size):
            yield batch.to_pylist()
