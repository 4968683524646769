"""`ckl-bench sweep`: many runs, each in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ckl_bench.cli.config import ConfigOption, Configured, PresetOption, preset_settings
from ckl_bench.cli.options import (
    LOADING,
    AttentionOption,
    CheckpointOption,
    DeviceOption,
    DtypeOption,
    KeepOption,
    MethodsOption,
    MicroBatchOption,
    PickleOption,
    RemoteOption,
    at_least_one,
    say,
    valid_seeds,
)
from ckl_bench.cli.where import (
    HERE,
    AddressOption,
    CpusOption,
    ExecutorOption,
    GpuMemoryOption,
    GpusOption,
    JobsOption,
    MemoryOption,
    SlurmOption,
    device_there,
    place_of,
)
from ckl_bench.errors import CklError, UserError

if TYPE_CHECKING:
    from ckl_bench.learning.run import RunRequest
    from ckl_bench.running.place import Place
    from ckl_bench.running.sweep import Board, Run
    from ckl_bench.running.task import Task


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """What the options ask for; of several tables of settings in a file, each asks once."""

    requests: Sequence[RunRequest]
    place: Place
    output: Path
    save_to: Path | None
    keep: str
    log_to: Sequence[str]
    retries: int
    json: bool
    dry_run: bool


class Swept(Configured):
    """A command that takes --config and --preset, and for which several values of an option are several runs."""

    def invoke(self, ctx: Any) -> Any:
        """Check every run, then carry out all."""
        wanted: list[_Wanted] = self.checked(ctx)
        _carry_out([request for each in wanted for request in each.requests], wanted[0])


def sweep(
    method: Annotated[list[str], typer.Option("--method", help="A method, as of `run`; several are several runs.")],
    benchmark: Annotated[
        list[str] | None, typer.Option("--benchmark", help="A name or a directory.", show_default="lama-ckl-mini")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="A name, a folder, a .gguf file, or a hub id.", show_default="smollm2-135m"),
    ] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Several are several runs.", show_default="0")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="method.field=value[,value...], for the methods that have this part."),
    ] = None,
    epochs: Annotated[
        list[int] | None, typer.Option(help="Passes over a stage.", show_default="benchmark's default")
    ] = None,
    lr: Annotated[
        list[float] | None, typer.Option(help="Learning rate.", show_default="the method's, else the benchmark's")
    ] = None,
    batch_size: Annotated[
        list[int] | None, typer.Option(help="Documents a step.", show_default="benchmark's default")
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Tokens of a document at most; the rest of it is not read.")] = 512,
    limit: Annotated[int | None, typer.Option(help="Only the first N documents and probes: a try.")] = None,
    methods_dir: MethodsOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    micro_batch: MicroBatchOption = None,
    checkpoint_activations: CheckpointOption = False,
    attention: AttentionOption = None,
    output: Annotated[Path, typer.Option(help="Where records and tables go.")] = Path("runs"),
    save_model: Annotated[
        Path | None, typer.Option(help="Keep the models that have learned in DIR/RUN-ID.", metavar="DIR")
    ] = None,
    keep: KeepOption = "last",
    log_to: Annotated[
        list[str] | None, typer.Option(help="tensorboard, wandb, mlflow or trackio, as of `run`.")
    ] = None,
    retain: Annotated[
        str | None, typer.Option(metavar="TASK[,TASK...]", help="Tasks of lm-evaluation-harness, as of `run`.")
    ] = None,
    retain_limit: Annotated[int | None, typer.Option(help="Only the first N samples of each such task.")] = None,
    include_path: Annotated[Path | None, typer.Option(help="A folder with YAML files of tasks of your own.")] = None,
    trust_remote_code: RemoteOption = False,
    allow_pickle: PickleOption = False,
    config: ConfigOption = None,
    preset: PresetOption = None,
    executor: ExecutorOption = None,
    jobs: JobsOption = None,
    cpus: CpusOption = None,
    gpus: GpusOption = None,
    gpu_memory: GpuMemoryOption = None,
    memory: MemoryOption = None,
    address: AddressOption = None,
    slurm: SlurmOption = None,
    retries: Annotated[int, typer.Option(help="How often a run that fails is run again.", rich_help_panel=HERE)] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs, and run none.")] = False,
    json: Annotated[
        bool,
        typer.Option("--json", help="Print a line of JSON for every change of a run to stdout, nothing else."),
    ] = False,
) -> _Wanted:
    """Run every choice of the options' values, side by side; given again, it goes on."""
    at_least_one(max_tokens=max_tokens, limit=limit, micro_batch=micro_batch, retain_limit=retain_limit)
    for name, counts in (("epochs", epochs), ("batch_size", batch_size)):
        for count in counts or []:
            at_least_one(**{name: count})
    valid_seeds(seed or [])
    for rate in lr or []:
        if not 0 <= rate < float("inf"):
            raise UserError(f"--lr {rate}: expected a number that is not negative, such as 5e-4")
    if not 0 <= retries < 1000:
        raise UserError(f"--retries {retries}: expected a whole number from 0 to 999")
    place = place_of(executor, jobs, cpus, gpus, gpu_memory, memory, address, slurm)
    if not dry_run and not (output / "records").is_dir():  # else all may be done, and then no cluster is asked
        place.require_answer()
    from ckl_bench.progress import line

    with line(LOADING):
        from ckl_bench.learning.keep import require_epoch
        from ckl_bench.learning.tasks import wanted
        from ckl_bench.learning.trackers import tracker
        from ckl_bench.running.grid import grid, setting_choices
        from ckl_bench.stacks.stack import make_stack
        from ckl_bench.storage.writing import require_writable

    require_epoch(keep, save_model)
    require_writable(output)
    if save_model is not None:
        require_writable(save_model)
    for name in log_to or []:
        tracker(name, output)
    where, kind = device_there(device, dtype, place)
    values: dict[str, Sequence[Any]] = {
        "benchmark": benchmark or ["lama-ckl-mini"],
        "model": model or ["smollm2-135m"],
        "epochs": epochs or [None],
        "learning_rate": lr or [None],
        "batch_size": batch_size or [None],
        "seed": seed or [0],
    }
    of_preset = [
        setting
        for each in (method if preset is not None else [])
        for setting in preset_settings(preset, make_stack(each, (), methods_dir).hyperparameters)
    ]
    requests = grid(
        method,
        setting_choices(of_preset) | setting_choices(settings or []),
        values,
        methods_dir=methods_dir,
        max_tokens=max_tokens,
        limit=limit,
        device=where,
        dtype=kind,
        micro_batch=micro_batch,
        checkpoint_activations=checkpoint_activations,
        attention=attention,
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
        retain=wanted(retain, retain_limit, include_path),
    )
    return _Wanted(
        requests=requests,
        place=place,
        output=output,
        save_to=save_model,
        keep=keep,
        log_to=log_to or [],
        retries=retries,
        json=json,
        dry_run=dry_run,
    )


def _carry_out(requests: Sequence[RunRequest], how: _Wanted) -> None:
    """Check all runs, carry them out, and show what came of them."""
    from ckl_bench.progress import line
    from ckl_bench.running.grid import planned
    from ckl_bench.running.sweep import sweep as carry_out

    with line(f"checking {len(requests)} runs"):
        tasks = planned(requests, how.output, how.save_to, how.log_to, how.keep)
    if how.dry_run:
        _list(tasks, how.output)
        return
    runs = carry_out(
        tasks, how.output, lambda folder: how.place.make(folder, tasks), _board(how.json), retries=how.retries
    )
    if not how.json:
        _show(runs, how.output, how.save_to)
    failed = [run for run in runs if run.state == "failed"]
    if failed:
        raise CklError(f"{len(failed)} of {len(runs)} runs failed; {failed[0].task.name}: {failed[0].error}")


def _board(json: bool) -> Board:
    from rich.console import Console

    from ckl_bench.running.board import JsonLines, Lines, LiveTable

    if json:
        return JsonLines()
    return LiveTable(Console(stderr=True)) if sys.stderr is not None and sys.stderr.isatty() else Lines()


def _list(tasks: Sequence[Task], output: Path) -> None:
    from ckl_bench.results.output import finished

    for task in tasks:
        say(f"{task.run_id}  {'done' if finished(output, task.run_id) else 'to do':5}  {task.name}")


def _show(runs: Sequence[Run], output: Path, models: Path | None) -> None:
    """A table for each benchmark and model, of all records in the output."""
    from rich.console import Console

    from ckl_bench.results.output import finished, table_beside_committed

    found = [finished(output, run.task.run_id) for run in runs if run.state == "done"]
    apart = {(record.spec.benchmark_hash, record.spec.model_revision): record for record in found if record is not None}
    for record in apart.values():
        Console().print(table_beside_committed(output, record))
    kept = f"; models: {models}" if models is not None else ""
    say(f"{len(found)} of {len(runs)} runs are done; records: {output}/records{kept}")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sweep", cls=Swept)(sweep)
