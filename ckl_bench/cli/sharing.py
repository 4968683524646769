"""Commands that make benchmarks, models and records ready for others' tools and hubs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ckl_bench.cli.options import say
from ckl_bench.errors import UserError
from ckl_bench.progress import log

if TYPE_CHECKING:
    from ckl_bench.benchmarks.format import Probe
    from ckl_bench.records import Record

FORMATS = ("eval-results", "every-eval-ever")


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    for command in (card, export, push):
        app.command()(command)


def card(
    benchmarks: Annotated[list[str], typer.Argument(help="Benchmark directories, or names (see `benchmarks`).")],
) -> None:
    """Write the dataset card and the Croissant file of benchmarks again; their hash stays what it was.

    `build` writes both: by the card (README.md) datasets.load_dataset(DIR, "documents") reads a benchmark.
    """
    from ckl_bench.benchmarks.format import describe

    for name in benchmarks:
        for path in describe(name):
            say(f"{path}: written")


def export(
    out: Annotated[Path, typer.Option(help="The folder that the files go to.")],
    to: Annotated[str, typer.Option("--format", help="eval-results (the hub's YAML) or every-eval-ever (JSON).")],
    records: Annotated[
        list[str] | None,
        typer.Argument(help="Records' files, or beginnings of run ids.", show_default="all that are in --output"),
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder of runs.")] = Path("runs"),
    dataset: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Where the hub has the benchmark (see `push`).")
    ] = None,
    benchmark: Annotated[
        str | None,
        typer.Option(help="Where the benchmark lies, for its texts.", show_default="found by its name"),
    ] = None,
    organization: Annotated[str, typer.Option(help="Who ran this, for every-eval-ever.")] = "unknown",
    source: Annotated[str | None, typer.Option(metavar="URL", help="Something that bears the scores out.")] = None,
) -> None:
    """Write records in others' forms: what the model that each run left behind scores.

    eval-results: RUN-ID/.eval_results/BENCHMARK.yaml, for that model's repository; with --out runs/models it lands in
    the folder that --save-model made, says what the epoch kept there scores, and `push` takes it along.
    every-eval-ever: data/.../UUID.json.
    """
    from ckl_bench.results.eval_results import FOLDER, eval_results_yaml
    from ckl_bench.results.every_eval_ever import every_eval_ever
    from ckl_bench.storage.weights import kept_epoch
    from ckl_bench.storage.writing import write_files

    if to not in FORMATS:
        raise UserError(f"--format {to}: expected one of {', '.join(FORMATS)}")
    if dataset is not None and (dataset.count("/") != 1 or not all(dataset.split("/"))):
        raise UserError(f"--dataset {dataset}: expected OWNER/NAME, as in --dataset you/lama-ckl-mini")
    if to == "eval-results" and dataset is None:
        raise UserError(
            "--format eval-results ties scores to a data set: give --dataset OWNER/NAME, the benchmark's on the hub "
            "(ckl-bench push puts it there)"
        )
    texts: dict[Path, str] = {}
    for record in _chosen(records or [], output):
        if to == "eval-results":
            name = f"{record.spec.benchmark.replace('/', '-')}.yaml"
            folder = out / record.run_id
            epoch = kept_epoch(folder)  # where that model is, the scores are its own
            texts[folder / FOLDER / name] = eval_results_yaml(record, dataset or "", source, epoch)
        else:
            probes = _probes(record, benchmark)
            made = every_eval_ever(
                record, time.time(), probes=probes, dataset=dataset, organization=organization, source=source
            )
            texts |= {out / path: text for path, text in made.items()}
    write_files({path: text.encode() for path, text in texts.items()})
    for path in texts:
        say(f"{path}: written")


def _chosen(wanted: list[str], output: Path) -> list[Record]:
    """The records that are named, or all finished ones of a folder; UserError where there is none."""
    from ckl_bench.records import read_record, read_records
    from ckl_bench.results.reproduce import find_file

    if wanted:
        return [read_record(find_file(name, output)) for name in wanted]
    found = list(read_records(output))
    failed = [record.run_id for record in found if record.status != "done"]
    if failed:
        log(f"note: {len(failed)} failed runs have no scores and are left out, such as {failed[0]}")
    if len(found) == len(failed):
        raise UserError(f"{output} holds no record of a finished run; name records, or give --output")
    return [record for record in found if record.status == "done"]


def _probes(record: Record, given: str | None) -> Mapping[tuple[str, str, str], Probe] | None:
    """The probes of a record's benchmark by stage, set and id; None, and a note, where it is not at hand as it was."""
    from ckl_bench.benchmarks.format import load_benchmark

    try:
        data = load_benchmark(given or record.spec.benchmark)
    except UserError:
        if given:
            raise
        data = None
    if data is None or data.hash != record.spec.benchmark_hash:
        log(
            f"note: run {record.run_id} is exported without its samples: the benchmark {record.spec.benchmark} "
            f"({record.spec.benchmark_hash[:12]}) is not {given or 'known by that name'}; give --benchmark DIR"
        )
        return None
    return {
        (stage.name, name, probe.id): probe
        for stage in data.stages
        for name, rows in stage.probes.items()
        for probe in rows
    }


def push(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A benchmark directory, or a model of --save-model.")],
    repo: Annotated[str, typer.Argument(metavar="REPO", help="OWNER/NAME on the hub.")],
    public: Annotated[bool, typer.Option("--public", help="For everyone to see; private by default.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, and send nothing.")] = False,
) -> None:
    """Put a benchmark or a kept model on the Hugging Face hub, as a data set or a model.

    What is sent is listed first: the files that ckl-bench wrote, and nothing else that lies in the folder. The hub's
    token is that of `hf auth login`, or HF_TOKEN.
    """
    from ckl_bench.progress import line
    from ckl_bench.results.push import parcel
    from ckl_bench.results.push import push as send

    with line(f"reading {folder}"):
        what = parcel(folder, repo)
    sizes = what.sizes()
    seen = "public" if public else "private"
    say(f"{folder} -> {what.repo_type} {repo}, {seen}: {len(sizes)} files, {sum(sizes.values()):,} bytes")
    for name, size in sizes.items():
        say(f"  {size:14,}  {name}")
    if dry_run:
        say("nothing was sent; leave out --dry-run to send it")
        return
    with line(f"sending to {repo}"):
        address = send(what, public=public)
    say(f"sent: {address}")
