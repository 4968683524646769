"""Commands over finished runs: tables, comparisons, repetition, submission."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ckl_bench.cli.options import (
    LOADING,
    BenchmarkOption,
    DeviceOption,
    MethodsOption,
    ModelOption,
    PickleOption,
    RemoteOption,
    say,
)
from ckl_bench.errors import CklError, Unknown, UserError
from ckl_bench.progress import log

if TYPE_CHECKING:
    from ckl_bench.records import Record

PORT = 8765  # of `report --watch`
READING = "reading the records"


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    for command in (leaderboard, compare, reproduce, submit, report, show):
        app.command()(command)


def leaderboard(
    output: Annotated[
        Path | None, typer.Option(help="Folder with records/.", show_default="the committed leaderboards/")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 where a table is not current.")] = False,
) -> None:
    """Regenerate the CSV tables from the records."""
    from ckl_bench.progress import line

    with line(READING):
        from ckl_bench.records import read_records
        from ckl_bench.results.tables import first_difference, tables_locked, write_tables
        from ckl_bench.storage.files import leaderboards_dir

        folder = output or leaderboards_dir()
        if not (folder / "records").is_dir():
            raise UserError(f"{folder} has no records/; give the --output of a run")
        try:
            records = list(read_records(folder))
        except UserError as error:
            raise (CklError(str(error)) if check else error) from error  # --check says 1 for all that is not as it was
        difference = first_difference(folder, records) if check else None
    if difference:
        raise CklError(f"{difference}; run ckl-bench leaderboard to regenerate")
    if check:
        say(f"{folder}: the tables agree with {len(records)} records")
        return
    with tables_locked(folder):
        with line(READING):
            records = list(read_records(folder))
            written = write_tables(folder, records)
        for path in written:
            say(f"{path}: from {len(records)} records")


def compare(
    first: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help="A stack, such as taalm; where it was run with several settings, lora@lr=1e-3,epochs=8 or "
            "lora@lora.r=8; or the beginning of a run id.",
        ),
    ],
    second: Annotated[str, typer.Argument(metavar="B", help="What to compare it with, named as A is.")],
    benchmark: BenchmarkOption = "lama-ckl-mini",
    model: ModelOption = "smollm2-135m",
    output: Annotated[Path, typer.Option(help="Folder of your runs, looked at beside the committed ones.")] = Path(
        "runs"
    ),
    methods_dir: MethodsOption = None,
) -> None:
    """Say whether two stacks differ by more than chance, over the same probes and seeds.

    Of every measure the p of a paired permutation test, corrected for the number of measures (Holm).
    """
    from ckl_bench.progress import line

    with line(READING):
        from ckl_bench.records import read_records
        from ckl_bench.results.compare import compare as compared
        from ckl_bench.results.compare import headline, sentence
        from ckl_bench.results.metrics import told
        from ckl_bench.results.select_runs import find_current, runs_on
        from ckl_bench.storage.files import leaderboards_dir

        every = {record.run_id: record for folder in (output, leaderboards_dir()) for record in read_records(folder)}
        named = runs_on(every.values(), benchmark, model)
        sides = [find_current(named, wanted, benchmark, methods_dir) for wanted in (first, second)]
        found, seeds = compared(*sides)
    head, names = headline(sides[0][0], sides[1][0], benchmark, seeds, len(found))
    say(head)
    for name, side in zip(names, sides, strict=True):
        if any(map(told, side)):
            say(f"  {name} was told the answers, and is no equal of one that was not.")
    for comparison in found:
        say(f"  {sentence(comparison, names)}")


def reproduce(
    record: Annotated[str, typer.Argument(help="A record's file, or the beginning of a run's id.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Where a file of the run lies, as taalm.attention=phi.safetensors."),
    ] = None,
    benchmark: Annotated[
        str | None, typer.Option(help="Where the run's benchmark lies.", show_default="found by its name")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Where the run's model lies.", show_default="found by its name")
    ] = None,
    methods_dir: MethodsOption = None,
    device: DeviceOption = "auto",
    trust_remote_code: RemoteOption = False,
    allow_pickle: PickleOption = False,
) -> None:
    """Run a record's spec again and say, number by number, whether it agrees; mark the record where it does."""
    from ckl_bench.progress import line

    with line(LOADING):
        from ckl_bench.learning.environment import pick_device
        from ckl_bench.learning.run import execute
        from ckl_bench.records import read_record
        from ckl_bench.results.output import update_tables
        from ckl_bench.results.reproduce import agreement, find_file, mark_of, plan_again, request_of
        from ckl_bench.results.reproduced import add_mark

    path = find_file(record)
    original = read_record(path)
    request = replace(
        request_of(original.spec, settings or []),
        benchmark=benchmark or original.spec.benchmark,
        model=model or original.spec.model,
        methods_dir=methods_dir,
        device=pick_device(device),
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
    )
    with line(f"reading {request.benchmark} and {request.model}"):
        plan = plan_again(original, request)
    again = execute(plan)
    if again.status == "failed":
        raise CklError(f"the run failed: {again.error}")
    report = agreement(original, again)
    for verdict in report.lines:
        say(verdict)
    if not report.agrees:
        raise CklError(report.summary)
    say(report.summary)
    if path != path.parent.parent / "records" / f"{original.run_id}.json":
        log(f"note: {path} is no record of a leaderboard, so it gets no mark; ckl-bench submit adds it to one")
        return
    try:
        say(f"{add_mark(path.parent.parent, mark_of(path, again, report))}: marked as reproduced")
        update_tables(path.parent.parent)
    except UserError as error:
        log(f"note: the mark that it is reproduced, or the tables that count it, could not be written: {error}")


def submit(
    records: Annotated[list[Path], typer.Argument(help="Records of finished runs: runs/records/*.json.")],
    output: Annotated[
        Path | None, typer.Option(help="The leaderboard they join.", show_default="the committed leaderboards/")
    ] = None,
    methods_dir: MethodsOption = None,
) -> None:
    """Validate records, copy them into the leaderboard, regenerate its tables, and say what to commit."""
    from ckl_bench.progress import line

    with line(READING):
        from ckl_bench.results.submit import submit as submitted
        from ckl_bench.storage.files import leaderboards_dir

        folder = output or leaderboards_dir()
        written = submitted(records, folder, methods_dir)
    for path in written:
        say(f"{path}: written")
    say(f"next: git add {folder} && git commit -m 'Records of ...'")


def report(
    output: Annotated[
        Path | None, typer.Option(help="Folder with records/; the page goes there.", show_default="leaderboards/")
    ] = None,
    figures: Annotated[Path | None, typer.Option(help="Folder for the figures as PNG and SVG files too.")] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Serve the page to this machine, drawn again as records come in.")
    ] = False,
    port: Annotated[
        int | None, typer.Option(help="Port of --watch; 0: any that is free.", show_default=str(PORT))
    ] = None,
) -> None:
    """Write report.html: curves, the trade-off, the table, every fact, token weights; one file, no network."""
    from ckl_bench.progress import line

    if port is not None and not watch:
        raise UserError("--port belongs to --watch; give both, or neither")
    if watch:
        if figures is not None:
            raise UserError("--figures and --watch: give one of them")
        from ckl_bench.results.report.watch import watch as serve
        from ckl_bench.storage.files import leaderboards_dir

        serve(output or leaderboards_dir(), PORT if port is None else port, say)
        return
    with line("drawing the page"):
        from ckl_bench.records import read_records
        from ckl_bench.results.report.page import write_figures, write_report
        from ckl_bench.storage.files import leaderboards_dir

        folder = output or leaderboards_dir()
        records = list(read_records(folder))
        page = write_report(records, folder / "report.html")
        drawn = write_figures(records, figures) if figures else []
    say(f"{page}: from {len(records)} records")
    for path in drawn:
        say(f"{path}")


def show(
    run: Annotated[
        str, typer.Argument(help="A stack, such as taalm, a record's file, or the beginning of a run's id.")
    ],
    benchmark: BenchmarkOption = "lama-ckl-mini",
    model: ModelOption = "smollm2-135m",
    output: Annotated[Path, typer.Option(help="Folder of your runs, looked at before the committed ones.")] = Path(
        "runs"
    ),
    methods_dir: MethodsOption = None,
) -> None:
    """Show a run in the terminal: its curves, and its token weights in colour."""
    from ckl_bench.progress import line

    with line(READING):
        from ckl_bench.results.report.terminal import print_run
        from ckl_bench.results.reproduce import find_record

        try:
            found = [find_record(run, output)]
        except Unknown:
            found = _runs_of(run, benchmark, model, output, methods_dir)
    print_run(found[0])
    if found[1:]:
        others = ", ".join(f"{record.spec.seed} ({record.run_id[:8]})" for record in found[1:])
        say(f"this is seed {found[0].spec.seed}; there are others, to be shown by their ids: seed {others}")


def _runs_of(stack: str, benchmark: str, model: str, output: Path, methods_dir: Path | None) -> list[Record]:
    """A stack's runs on a benchmark and model, in the order of their seeds: one's own, else the committed ones."""
    from ckl_bench.records import read_records
    from ckl_bench.results.select_runs import find_current, runs_on
    from ckl_bench.storage.files import leaderboards_dir

    own = list(read_records(output))
    try:
        found = find_current(runs_on(own, benchmark, model), stack, benchmark, methods_dir)
    except Unknown:
        every = runs_on([*own, *read_records(leaderboards_dir())], benchmark, model)
        found = find_current(every, stack, benchmark, methods_dir)
    return sorted(found, key=lambda record: record.spec.seed)
