"""Rows of a JSONL file as objects, memory-mapped through Arrow so that a long file does not fill memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from ckl_bench.errors import UserError
from ckl_bench.storage.files import read_jsonl
from ckl_bench.storage.seals import made_once

T = TypeVar("T")
_GROUP = 1000  # rows that are written at once
_FILE = "rows.arrow"


class ArrowRows(Sequence[T]):
    """The rows of `path`, a verified file; their Arrow table is made in the folder `place` once and found there again.

    `row` is their kind, a dataclass with an id, `features` gives its columns. Reading raises UserError for a row of
    another kind, for an id that stands twice, and where `place` cannot be written.
    """

    def __init__(self, path: Path, place: Path, row: type[T], features: Callable[[type], Any]) -> None:
        self._path, self._place, self._kind, self._features = path, place, row, features
        self._row = TypeAdapter(row)
        self._rows: Any = None

    def _load(self) -> Any:
        from datasets import Dataset

        if self._rows is None:
            self._rows = Dataset.from_file(str(made_once(self._place, self._make) / _FILE))
        return self._rows

    def _make(self, folder: Path) -> None:
        import pyarrow as pa

        rows, schema = self._checked(), self._features(self._kind).arrow_schema
        with open(folder / _FILE, "wb") as file, pa.ipc.new_stream(file, schema) as writer:
            while group := list(islice(rows, _GROUP)):
                writer.write_batch(pa.RecordBatch.from_pylist(group, schema=schema))

        self._each_once(folder / _FILE)

    def _each_once(self, made: Path) -> None:
        # Counted by Arrow: as objects of Python the ids of a long file would fill memory.
        import pyarrow as pa
        import pyarrow.compute as pc

        with pa.memory_map(str(made)) as file:
            counts = pc.value_counts(pa.ipc.open_stream(file).read_all()["id"])
        twice = counts.filter(pc.greater(counts.field("counts"), 1))
        if len(twice):
            raise UserError(
                f"{self._path}: the id '{twice[0].as_py()['values'][:60]}' stands in it twice; give every row its own, "
                "and build the benchmark again"
            )

    def _checked(self) -> Iterator[dict[str, Any]]:
        # Not by Arrow's own reader of JSON: lines that a stranger made crash it.
        for number, row in read_jsonl(self._path):
            try:
                yield asdict(self._row.validate_python(row))  # type: ignore[call-overload]
            except ValidationError as error:
                first = error.errors()[0]
                place = ".".join(map(str, first["loc"])) or "row"
                raise UserError(f"{self._path}:{number}: {place}: {first['msg']}; build the benchmark again") from error

    def __len__(self) -> int:
        return len(self._load())

    def __getitem__(self, index: Any) -> Any:
        rows = self._load()
        if isinstance(index, slice):
            return [self._row.validate_python(rows[i]) for i in range(*index.indices(len(rows)))]
        return self._row.validate_python(rows[index])

    def __iter__(self) -> Iterator[T]:
        for row in self._load():
            yield self._row.validate_python(row)
