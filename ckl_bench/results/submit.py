"""Records -> leaderboard: what must hold before a stranger's run stands beside the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ckl_bench.benchmarks.catalogue import BENCHMARKS
from ckl_bench.benchmarks.format import Benchmark, load_benchmark
from ckl_bench.errors import InvalidRecord, UserError, unknown
from ckl_bench.learning.run import plan_run
from ckl_bench.models.find import find_model
from ckl_bench.models.hub import pinned
from ckl_bench.progress import log
from ckl_bench.records import Record, read_record, read_records, write_record
from ckl_bench.results.metrics import told
from ckl_bench.results.plausible import implausible
from ckl_bench.results.reproduce import Agreement, agreement, request_of, scored_sets
from ckl_bench.results.spent import costs_that_cannot_be
from ckl_bench.results.start import starts_as_the_base, unlike_the_base
from ckl_bench.results.tables import tables_locked, write_tables

_NO_MARK = "It was handed in, not run here, and marks nothing as reproduced; ckl-bench reproduce does"


def submit(paths: Sequence[Path], folder: Path, methods_dir: Path | None = None) -> list[Path]:
    """Judge every record, then copy all of them and regenerate the tables; returns the files written.

    A second record of a run that is there already is compared with it. Where the two agree that is said, and no more:
    it was handed in, and only `reproduce` marks what was made again here. Where anything is wrong with any record, all
    of it is logged, a line each, and UserError raised; then nothing is written.
    """
    wrong: dict[Path, list[str]] = {path: [] for path in paths}
    board = {record.run_id: record for record in read_records(folder)}
    given: dict[Path, Record] = {}
    for path in wrong:
        try:
            given[path] = read_record(path)
        except InvalidRecord as error:
            wrong[path] += error.reasons
        except UserError as error:
            wrong[path].append(str(error))
    every = [*board.values(), *given.values()]
    new: dict[str, Record] = {}
    for path, record in given.items():
        wrong[path] += objections(record, methods_dir, every)
        there = board.get(record.run_id) or new.setdefault(record.run_id, record)
        if there == record:
            if record.run_id in board:
                log(f"note: {path}: run {record.run_id} is there already")
        elif not wrong[path]:
            report = _compared(there, record)
            if report.agrees:
                log(f"note: {path}: run {record.run_id} is there already; {report.summary}. {_NO_MARK}")
            else:
                wrong[path].append(f"run {record.run_id} is there already with other numbers: {_first(report)}")
    for path, reasons in wrong.items():
        for reason in dict.fromkeys(reasons):
            log(" ".join(f"{path}: {reason}".split()))
    refused = sum(map(bool, wrong.values()))
    if refused:
        raise UserError(f"{refused} of {len(wrong)} records cannot be submitted; nothing was written")
    written = [write_record(folder, record) for record in new.values()]
    with tables_locked(folder):
        return [*written, *write_tables(folder, read_records(folder))]


def objections(record: Record, methods_dir: Path | None = None, others: Iterable[Record] = ()) -> list[str]:
    """Why a record may not join the leaderboard of `others`, a sentence each; none where it may."""
    spec = record.spec
    if spec.scored_only:
        return ["it is of a model that was scored only: nobody can repeat how it learned; submit the record of a run"]
    found = []
    if record.status != "done":
        found.append(f"the run failed ({record.error})")
    if spec.limit is not None:
        found.append(f"it is of the first {spec.limit} documents and probes; run it without --limit")
    if record.environment.commit.endswith("+changes"):
        found.append("it was made from files that differ from their commit; commit them and run it again")
    if spec.benchmark not in BENCHMARKS:
        hint = "Only embedded benchmarks have a leaderboard here."
        return [*found, str(unknown("benchmark", spec.benchmark, BENCHMARKS, hint))]
    found += _of_who_was_told(record)
    as_base = False
    try:
        plan = plan_run(replace(request_of(spec), methods_dir=methods_dir))
        as_base, now = starts_as_the_base(plan.stack), plan.spec.model_dump()
        for name, value in spec.model_dump().items():
            if now[name] != value:
                found.append(f"its {name} is {value}, here it is {now[name]}; run it again")
    except UserError as error:
        found.append(str(error))
    benchmark = load_benchmark(spec.benchmark)
    if record.status == "done" and benchmark.hash == spec.benchmark_hash:
        misshapen = list(_of_another_shape(record, benchmark))
        found += [*costs_that_cannot_be(record), *(misshapen or _of_its_numbers(record, benchmark, others, as_base))]
    return found


def _of_who_was_told(record: Record) -> list[str]:
    if record.status != "done":
        return []
    if record.told is None and record.spec.schema_version > 1:
        return ["it does not say whether its method was told the answers; run it again"]
    if record.told is False and told(record):
        return [f"it says that {record.spec.method} was not told the answers, which it is by what it does"]
    return []


def _of_another_shape(record: Record, benchmark: Benchmark) -> Iterator[str]:
    """Where a record's stages, probes, epochs and documents are not those of its spec and benchmark."""
    names = [stage.name for stage in benchmark.stages]
    if [stage.name for stage in record.stages] != names:
        yield f"it has the stages {', '.join(s.name for s in record.stages)}, the benchmark {', '.join(names)}"
    if list(record.before) != names[1:]:
        yield "it does not have the scores before training of every stage after the first"
    allowed = {document.id for document in benchmark.rehearsal}
    for number, (stage, scored) in enumerate(zip(benchmark.stages, record.stages, strict=False)):
        if {name: [probe.id for probe in rows] for name, rows in stage.probes.items()} != scored.probe_ids:
            yield f"its probes in stage '{scored.name}' are not those of the benchmark"
        stranger = next((name for name in scored.rehearsed if name not in allowed), None)
        if stranger is not None:
            yield f"it read document '{stranger}', which is not of the benchmark"
        if scored.documents != len(stage.documents):
            count = len(stage.documents)
            yield f"it learned {scored.documents} documents in stage '{scored.name}', the benchmark has {count}"
        if [epoch.epoch for epoch in scored.epochs] != list(range(record.spec.epochs + 1)):
            yield f"it does not have the scores of all {record.spec.epochs} epochs"
        if list(scored.earlier) != names[:number]:
            yield f"it does not have the scores of every stage before '{scored.name}'"


def _of_its_numbers(record: Record, benchmark: Benchmark, others: Iterable[Record], as_base: bool) -> list[str]:
    try:
        base = find_model(pinned(record.spec.model, record.spec.model_revision))
    except UserError as error:
        return [str(error)]
    if base.revision != record.spec.model_revision:
        return []  # which is said already: whatever its numbers are, they are another model's
    return [*implausible(record, benchmark, base), *unlike_the_base(record, others, as_base)]


def _compared(then: Record, now: Record) -> Agreement:
    places = [[place for place, *_ in scored_sets(record)] for record in (then, now)]
    if places[0] != places[1]:
        return Agreement(lines=["they do not have scores in the same places"], agrees=False, summary="")
    return agreement(then, now)


def _first(report: Agreement) -> str:
    """The first number that differs, in words."""
    return next((line for line in report.lines if line.endswith("DIFFERS")), report.lines[0])
