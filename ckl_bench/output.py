"""The output folder of runs: records/*.json, the tables made of them, and how they stand beside the committed ones."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from ckl_bench.files import leaderboards_dir
from ckl_bench.leaderboard import rows, write_tables
from ckl_bench.records import Record, read_record, read_records, write_record
from ckl_bench.rows import Row
from ckl_bench.table import leaderboard_table


def finished(output: Path, run_id: str) -> Record | None:
    """The record of a run that is done already, if there is one."""
    path = output / "records" / f"{run_id}.json"
    record = read_record(path) if path.is_file() else None
    return record if record is not None and record.status == "done" else None


def store(output: Path, record: Record) -> None:
    """Write a record, and the tables of all records in the output folder."""
    write_record(output, record)
    write_tables(output, read_records(output))


def rows_like(folder: Path, record: Record) -> list[Row]:
    """Rows of a folder's records on the same benchmark hash and base model."""
    spec = record.spec
    same = [
        other
        for other in read_records(folder)
        if (other.spec.benchmark_hash, other.spec.model_revision) == (spec.benchmark_hash, spec.model_revision)
    ]
    return rows(same, spec.benchmark_kind)


def table_beside_committed(output: Path, record: Record) -> Table:
    """The output's rows of the record's benchmark and model, with the committed leaderboard's beside them."""
    committed = [] if output.resolve() == leaderboards_dir().resolve() else rows_like(leaderboards_dir(), record)
    return leaderboard_table(record.spec.benchmark_kind, rows_like(output, record), committed)
