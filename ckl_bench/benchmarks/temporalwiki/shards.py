"""A step of a build: units of work -> a folder of Parquet shards; stopped anywhere, it goes on behind the last one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from ckl_bench.errors import UserError
from ckl_bench.progress import log
from ckl_bench.storage.files import read_json, sha256_file
from ckl_bench.storage.writing import write_json

Row = dict[str, Any]
Rows: TypeAlias = "list[Row] | pa.Table"
Unit = tuple[Rows, Mapping[str, int]]  # rows, and counts of what was seen and done
_ROWS = 20_000  # rows a shard, about
_GROUP = 8 << 20  # bytes held in memory, about, before they are written
_WINDOW = 1000  # rows, where they are looked up by page: a few hundred pages cost the same however large a shard is
_NAMED = 500  # names of a kind that are counted each
_COUNTS = b"counts"
_HASH = 32  # hex digits of a shard's SHA-256 that stand in its name


def run_step(folder: Path, schema: pa.Schema, units: Callable[[int], Iterator[Unit]], rows: int = _ROWS) -> Path:
    """Write what `units(start)` yields, beginning behind the `start` units that are there already; returns `folder`.

    Units must come in the same order every time. Counts travel in the shards, so that they too survive a stop.
    """
    folder.mkdir(parents=True, exist_ok=True)
    start = _whole(folder)
    if (folder / "done").exists():
        return folder
    shard = _Shard(folder, schema, start)
    for number, (own, seen) in enumerate(units(start), start + 1):
        shard.add(own, seen, number)
        if shard.rows >= rows:
            shard.close()
            shard = _Shard(folder, schema, number)
    if shard.counts or not _shards(folder):
        shard.close()
    write_json(folder / "done", [path.name for path in _shards(folder)])
    return folder


def _whole(folder: Path) -> int:
    """The number of units in the shards that are as they were written, one behind the other; the rest is removed."""
    start, damaged = 0, False
    for path in _shards(folder):
        first, last, sha256 = path.stem.split("-")[1:]
        damaged = damaged or int(first) != start or sha256_file(path)[:_HASH] != sha256
        if damaged:
            log(f"{path} is damaged, or follows one that is: it is made again")
            path.unlink()
        else:
            start = int(last)
    listed = folder / "done"
    with suppress(UserError):
        if listed.exists() and read_json(listed) == [path.name for path in _shards(folder)]:
            return start
    listed.unlink(missing_ok=True)
    return start


class _Shard:
    """One Parquet file as it is filled, a few megabytes of rows at a time; it has its name only when it is whole."""

    def __init__(self, folder: Path, schema: pa.Schema, first: int) -> None:
        self._folder, self._schema, self._first, self._last = folder, schema, first, first
        self._temporary = folder / f".part-{first:09d}.tmp"
        self._writer: Any = None
        self._held: list[pa.Table] = []
        self._size = self.rows = 0
        self.counts: dict[str, int] = {}

    def add(self, rows: Rows, seen: Mapping[str, int], number: int) -> None:
        """Add a unit's rows and counts."""
        made = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows, schema=self._schema)
        self._held.append(made)
        self._size += made.nbytes
        self.rows += len(made)
        self._last = number
        for name, value in seen.items():
            self.counts[name] = self.counts.get(name, 0) + value
        if self._size > _GROUP:
            self._write()

    def _write(self) -> None:
        try:
            if self._writer is None:
                self._writer = pq.ParquetWriter(self._temporary, self._schema, compression="zstd")
            held = pa.concat_tables([self._schema.empty_table(), *self._held]).combine_chunks()
            self._writer.write_table(held, row_group_size=_WINDOW if "page" in self._schema.names else None)
        except OSError as error:
            raise self._failed(error) from error
        self._held, self._size = [], 0

    def close(self) -> None:
        """Write what is held, and give the file its name."""
        self._write()
        try:
            self._writer.add_key_value_metadata({_COUNTS.decode(): json.dumps(self.counts)})
            self._writer.close()
            with open(self._temporary, "rb") as file:
                os.fsync(file.fileno())
            sha256 = sha256_file(self._temporary)[:_HASH]
            os.replace(self._temporary, self._folder / f"part-{self._first:09d}-{self._last:09d}-{sha256}.parquet")
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> UserError:
        self._temporary.unlink(missing_ok=True)
        return UserError(f"cannot write {self._temporary}: {error.strerror or error}; free space and run it again")


def _shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


def counts_of(*folders: Path) -> dict[str, Any]:
    """What finished steps counted, together."""
    total: dict[str, int] = {}
    for path in (path for folder in folders for path in _shards(folder)):
        for name, value in json.loads(pq.read_metadata(path).metadata[_COUNTS]).items():
            total[name] = total.get(name, 0) + value
    counts: dict[str, Any] = {}
    for name, value in sorted(total.items(), key=lambda item: -item[1] if "/" in item[0] else 0):
        kind, slash, own = name.partition("/")
        if slash:
            named = counts.setdefault(kind, {})
            own = own if len(named) < _NAMED else "all others"
            named[own] = named.get(own, 0) + value
        else:
            counts[name] = value
    return counts


def table(*folders: Path) -> str:
    """The rows of steps, as DuckDB names them in a FROM clause."""
    return _read(f"{folder}/part-*.parquet" for folder in folders)


def _read(files: Iterable[object]) -> str:
    named = ", ".join("'" + str(file).replace("'", "''") + "'" for file in files)
    return f"read_parquet([{named}])"


class Pages:
    """The rows of steps by their column `page`: only the shards that may have a page are opened for it."""

    def __init__(self, *folders: Path) -> None:
        self._within: list[tuple[int, int, Path]] = []
        for path in (path for folder in folders for path in _shards(folder)):
            about = pq.read_metadata(path)
            column = about.schema.to_arrow_schema().get_field_index("page")
            spans = [about.row_group(i).column(column).statistics for i in range(about.num_row_groups)]
            known = [span for span in spans if span is not None and span.has_min_max]
            if known:
                self._within.append((min(s.min for s in known), max(s.max for s in known), path))
        self._any = _read(f"{folder}/part-*.parquet" for folder in folders)

    def within(self, first: int, last: int) -> str:
        """The rows with `first` <= page <= `last`, as DuckDB names them in a FROM clause."""
        files = [path for low, high, path in self._within if low <= last and high >= first]
        rows = _read(files) if files else self._any
        return f"(SELECT * FROM {rows} WHERE page BETWEEN {first} AND {last})"


def batches(folder: Path, size: int = 100) -> Iterator[list[Row]]:
    """A step's rows in order, a few at a time."""
    for path in _shards(folder):
        for batch in pq.ParquetFile(path).iter_batches(batch_size=size):
            yield batch.to_pylist()
