"""Records -> leaderboard: what must hold before a stranger's run stands beside the others."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ckl_bench.benchmarks.catalogue import BENCHMARKS
from ckl_bench.benchmarks.format import load_benchmark
from ckl_bench.errors import UserError, unknown
from ckl_bench.learning.run import plan_run
from ckl_bench.records import Record, SetScores, read_record, read_records, write_record
from ckl_bench.results.reproduce import request_of
from ckl_bench.results.tables import tables_locked, write_tables


def submit(paths: Sequence[Path], folder: Path, methods_dir: Path | None = None) -> list[Path]:
    """Validate every record, then copy all of them and regenerate the tables; returns the files written.

    Raises UserError at the first record that may not join; then nothing is written.
    """
    records = []
    for path in paths:
        record = read_record(path)
        problem = refuse(record, methods_dir)
        if problem:
            raise UserError(f"{path} cannot be submitted: {problem}")
        other = folder / "records" / f"{record.run_id}.json"
        if other.is_file() and read_record(other) != record:
            raise UserError(f"{path} cannot be submitted: {other} is another run of the same spec; remove one of them")
        records.append(record)
    written = [write_record(folder, record) for record in records]
    with tables_locked(folder):
        return [*written, *write_tables(folder, read_records(folder))]


def refuse(record: Record, methods_dir: Path | None = None) -> str | None:
    """Why a record may not join the leaderboard, in a sentence; None where it may."""
    spec = record.spec
    if record.status != "done":
        return f"the run failed ({record.error})"
    if spec.limit is not None:
        return f"it is of the first {spec.limit} documents and probes; run it without --limit"
    if record.environment.commit.endswith("+changes"):
        return "it was made from files that differ from their commit; commit them and run it again"
    if spec.benchmark not in BENCHMARKS:
        return str(
            unknown("benchmark", spec.benchmark, BENCHMARKS, "Only embedded benchmarks have a leaderboard here.")
        )
    try:
        plan = plan_run(replace(request_of(spec), methods_dir=methods_dir))
    except UserError as error:
        return str(error)
    now = plan.spec.model_dump()
    differing = [name for name, value in spec.model_dump().items() if now[name] != value]
    if differing:
        return f"its {differing[0]} is {getattr(spec, differing[0])}, here it is {now[differing[0]]}; run it again"
    benchmark = load_benchmark(spec.benchmark)
    for stage, scored in zip(benchmark.stages, record.stages, strict=False):
        ids = {name: [probe.id for probe in rows] for name, rows in stage.probes.items()}
        if ids != scored.probe_ids:
            return f"its probes in stage '{scored.name}' are not those of the benchmark"
        allowed = {document.id for document in benchmark.rehearsal}
        stranger = next((name for name in scored.rehearsed if name not in allowed), None)
        if stranger is not None:
            return f"it read document '{stranger}', which is not of the benchmark"
    if len(benchmark.stages) != len(record.stages):
        return f"it has {len(record.stages)} stages, the benchmark {len(benchmark.stages)}"
    if any(len(stage.epochs) != spec.epochs + 1 for stage in record.stages):
        return f"it does not have the scores of all {spec.epochs} epochs"
    if not all(
        math.isfinite(value) for scores in _sets(record) for value in (*scores.probe_accuracy, *scores.probe_nll)
    ):
        return "a score is not a finite number"
    if not all(0 <= value <= 1 for scores in _sets(record) for value in scores.probe_accuracy):
        return "an accuracy is not between 0 and 1"
    return None


def _sets(record: Record) -> Iterator[SetScores]:
    for stage in record.stages:
        for epoch in stage.epochs:
            yield from epoch.sets.values()
            for sets in epoch.views.values():
                yield from sets.values()
        for sets in stage.earlier.values():
            yield from sets.values()
    for sets in record.before.values():
        yield from sets.values()
