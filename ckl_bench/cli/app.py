"""The commands: parse, call, print. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperCommand

from ckl_bench import __version__, ranks
from ckl_bench.cli import authors, lists, prepare, results, score, sharing, sweep
from ckl_bench.cli import plan as planning
from ckl_bench.cli.build import build
from ckl_bench.cli.config import ConfigOption, Configured, PresetOption, preset_settings
from ckl_bench.cli.ending import quiet_others, to_the_end
from ckl_bench.cli.options import (
    LOADING,
    AttentionOption,
    BenchmarkOption,
    CheckpointOption,
    DeviceOption,
    DtypeOption,
    KeepOption,
    MethodsOption,
    MicroBatchOption,
    ModelOption,
    Once,
    PickleOption,
    RemoteOption,
    ScoreTokensOption,
    at_least_one,
    say,
    spread,
    tokens_or_auto,
    valid_seeds,
)
from ckl_bench.errors import CklError, UserError
from ckl_bench.stacks.settings import settings_over

if TYPE_CHECKING:
    from ckl_bench.learning.planned import Plan


def _version(wanted: bool) -> None:
    if wanted:
        say(f"ckl-bench {__version__}")
        raise typer.Exit


SHARED = ("run", "train-attention", "prepare")  # what several processes do together

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
app.add_typer(build, name="build")


@app.callback()
def program(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and leave.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Benchmark and evaluation harness for continual knowledge learning."""
    given = context.invoked_subcommand
    if ranks.started()[1] > 1 and given not in SHARED:
        raise UserError(
            f"several processes were started for '{given}', which is the work of one; type ckl-bench {given} alone. "
            f"What they share is {', '.join(SHARED)}"
        )


@app.command(cls=Configured)
def run(
    method: Annotated[str, typer.Option("--method", help="A method, or several joined by +, as in taalm+lora.")],
    benchmark: BenchmarkOption = "lama-ckl-mini",
    model: ModelOption = "smollm2-135m",
    epochs: Annotated[int | None, typer.Option(help="Passes over a stage.", show_default="benchmark's default")] = None,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate.", show_default="the method's, else the benchmark's")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Documents a step.", show_default="benchmark's default")
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(help="Give it several times for several runs.", show_default="0"),
    ] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="method.field=value, as lora.r=64.")] = None,
    max_tokens: Annotated[int, typer.Option(help="Tokens of a document at most; the rest of it is not read.")] = 512,
    limit: Annotated[int | None, typer.Option(help="Only the first N documents and probes: a try.")] = None,
    methods_dir: MethodsOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    micro_batch: MicroBatchOption = None,
    score_batch_tokens: ScoreTokensOption = "auto",
    checkpoint_activations: CheckpointOption = False,
    attention: AttentionOption = None,
    shard: Annotated[
        bool, typer.Option("--shard", help="Spread the frozen base model over the run's processes (FSDP).")
    ] = False,
    output: Annotated[Path, typer.Option(help="Where records and tables go.")] = Path("runs"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Run again although the record is there.")] = False,
    log_to: Annotated[
        list[str] | None,
        typer.Option(help="tensorboard, wandb, mlflow or trackio, if it is installed; may be given several times."),
    ] = None,
    retain: Annotated[
        str | None,
        typer.Option(metavar="TASK[,TASK...]", help="Tasks of lm-evaluation-harness, asked before and after the run."),
    ] = None,
    retain_limit: Annotated[int | None, typer.Option(help="Only the first N samples of each such task.")] = None,
    include_path: Annotated[Path | None, typer.Option(help="A folder with YAML files of tasks of your own.")] = None,
    save_model: Annotated[
        Path | None, typer.Option(help="Keep the model that has learned in DIR/RUN-ID.", metavar="DIR")
    ] = None,
    keep: KeepOption = "last",
    json: Annotated[bool, typer.Option("--json", help="Print the record, and nothing else, to stdout.")] = False,
    trust_remote_code: RemoteOption = False,
    allow_pickle: PickleOption = False,
    config: ConfigOption = None,
    preset: PresetOption = None,
) -> Callable[[], None]:
    """Run a method on a benchmark, write its record, and show its row beside the committed ones."""
    from ckl_bench.progress import line

    with line(LOADING):
        from ckl_bench.learning.environment import pick_device, pick_dtype
        from ckl_bench.learning.keep import require_epoch, require_keepable
        from ckl_bench.learning.run import RunRequest, plan_seeds
        from ckl_bench.learning.shard import asked
        from ckl_bench.learning.tasks import wanted
        from ckl_bench.learning.trackers import tracker
        from ckl_bench.stacks.stack import make_stack
        from ckl_bench.storage.writing import require_writable

    at_least_one(epochs=epochs, batch_size=batch_size, max_tokens=max_tokens, limit=limit)
    at_least_one(micro_batch=micro_batch, retain_limit=retain_limit)
    valid_seeds(seed or [])
    if lr is not None and not 0 <= lr < float("inf"):
        raise UserError(f"--lr {lr}: expected a number that is not negative, such as 5e-4")
    require_epoch(keep, save_model)
    place = pick_device(device)
    ranks.join(place)
    ranks.from_first(partial(require_writable, output))
    for name in log_to or []:
        tracker(name, output)  # whether it is there is known before anything is read
    if preset is not None:
        parts = make_stack(method, settings or [], methods_dir).hyperparameters
        settings = settings_over(preset_settings(preset, parts), settings or [])
    request = RunRequest(
        method=method,
        benchmark=benchmark,
        model=model,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=lr,
        max_tokens=max_tokens,
        limit=limit,
        settings=settings or [],
        methods_dir=methods_dir,
        device=place,
        dtype=pick_dtype(dtype, place),
        checkpoint_activations=checkpoint_activations,
        attention=attention,
        shard=shard or asked(),
        micro_batch=micro_batch,
        score_batch_tokens=tokens_or_auto("--score-batch-tokens", score_batch_tokens),
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
        retain=wanted(retain, retain_limit, include_path),
    )
    with line(f"reading {benchmark} and {model}"), ranks.together():
        plans = plan_seeds(request, seed or [0])
    if save_model is not None:
        for each in plans:
            ranks.from_first(partial(require_keepable, save_model, each, keep))
        ranks.from_first(partial(require_writable, save_model))
    return partial(_carry_out, plans, output, fresh, json, save_model, keep, log_to or [])


def _carry_out(
    plans: Sequence[Plan],
    output: Path,
    fresh: bool,
    json: bool,
    save_to: Path | None,
    keep: str,
    log_to: Sequence[str],
) -> None:
    """Run plans that differ by their seed, and show what came of them."""
    from rich.console import Console

    from ckl_bench.learning.retain import tell
    from ckl_bench.learning.trackers import tracker
    from ckl_bench.results.output import run_once, table_beside_committed
    from ckl_bench.storage.json import jsonl, sealed

    for warning in plans[0].warnings:
        _say(f"note: {warning}")
    records, problems = [], []
    for each in plans:
        try:
            told = [tracker(name, output) for name in log_to if ranks.first()]
            found, was_there = run_once(output, each, fresh=fresh, save_to=save_to, watchers=told, keep=keep)
        except CklError as error:
            if len(plans) == 1 or isinstance(error, ranks.Lost):
                raise
            _say(f"seed {each.spec.seed}: {error}")
            problems.append(f"seed {each.spec.seed}: {error}")
            continue
        if was_there:
            _say(f"seed {each.spec.seed} is done already ({output}/records/{found.run_id}.json); --fresh runs it again")
        records.append(found)
    failed = [record for record in records if record.status == "failed"]
    problems += [f"seed {record.spec.seed}: {record.error}" for record in failed]
    if json:
        for record in records:
            sys.stdout.write(jsonl([sealed(record.model_dump())]))
    elif len(failed) < len(records):
        done = [record for record in records if record.status == "done"]
        Console().print(table_beside_committed(output, done[0]))
        for record in done:
            tell(record)
            _say(f"record: {output}/records/{record.run_id}.json")
            if save_to is not None:
                _say(f"model: {save_to}/{record.run_id}")
    if problems:
        raise CklError(f"{len(problems)} of {len(plans)} runs failed; {problems[0]}")


def _say(message: str) -> None:
    from ckl_bench.progress import log

    log(message)


for room in (planning, score, sweep, lists, authors, prepare, results, sharing):
    room.register(app)
for command in (*app.registered_commands, *build.registered_commands):
    command.cls = command.cls if issubclass(command.cls or TyperCommand, Once) else Once


def main(arguments: list[str] | None = None) -> None:
    """The console script: one line and an exit code for every error (design, section 7)."""
    # Deprecations inside peft and transformers are theirs to mend, not the reader's of a table.
    warnings.filterwarnings("ignore", category=FutureWarning)
    typed = sys.argv[1:] if arguments is None else arguments
    several = ("--wikipedia", "--wikidata", "--page-props")  # options that take all files behind them
    quiet_others()
    to_the_end(lambda: app(args=spread(typed, several), standalone_mode=False), typed)
