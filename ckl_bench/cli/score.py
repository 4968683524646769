"""The command that scores a model as it stands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ckl_bench.cli.config import ConfigOption, Configured
from ckl_bench.cli.options import (
    LOADING,
    AttentionOption,
    BenchmarkOption,
    DeviceOption,
    DtypeOption,
    MethodsOption,
    PickleOption,
    RemoteOption,
    VllmOption,
    at_least_one,
    say,
)

if TYPE_CHECKING:
    from ckl_bench.learning.score import ScorePlan
    from ckl_bench.records import Record


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(cls=Configured)(score)


def score(
    model: Annotated[
        str,
        typer.Option(help="A name, a folder (a PEFT adapter or of --save-model too), a .gguf file, or a hub id."),
    ],
    adapter: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="A PEFT adapter, or what run --save-model kept, over that model: a folder or hub id; one or more.",
        ),
    ] = None,
    benchmark: BenchmarkOption = "lama-ckl-mini",
    limit: Annotated[int | None, typer.Option(help="Only the first N probes of every set: a try.")] = None,
    methods_dir: MethodsOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    backend: Annotated[str, typer.Option(help="Who scores: transformers, or vllm for many probes.")] = "transformers",
    vllm: VllmOption = None,
    attention: AttentionOption = None,
    output: Annotated[Path, typer.Option(help="Where records and tables go.")] = Path("runs"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Score again although the record is there.")] = False,
    retain: Annotated[
        str | None,
        typer.Option(metavar="TASK[,TASK...]", help="Tasks of lm-evaluation-harness, asked beside the base model."),
    ] = None,
    retain_limit: Annotated[int | None, typer.Option(help="Only the first N samples of each such task.")] = None,
    include_path: Annotated[Path | None, typer.Option(help="A folder with YAML files of tasks of your own.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the record, and nothing else, to stdout.")] = False,
    trust_remote_code: RemoteOption = False,
    allow_pickle: PickleOption = False,
    config: ConfigOption = None,
) -> Callable[[], None]:
    """Score a model as it stands on a benchmark's probes, write its record, and show its row, marked as scored only."""
    from ckl_bench.progress import line

    with line(LOADING):
        from ckl_bench.learning.environment import pick_device, pick_dtype
        from ckl_bench.learning.score import ScoreRequest, plan_score, plan_scores
        from ckl_bench.learning.tasks import wanted
        from ckl_bench.scoring.vllm_engine import options_of
        from ckl_bench.storage.writing import require_writable

    at_least_one(limit=limit, retain_limit=retain_limit)
    require_writable(output)
    place = pick_device(device)
    request = ScoreRequest(
        model=model,
        benchmark=benchmark,
        limit=limit,
        device=place,
        dtype=pick_dtype(dtype, place),
        attention=attention,
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
        methods_dir=methods_dir,
        retain=wanted(retain, retain_limit, include_path),
        backend=backend,
        vllm=options_of(vllm or []),
    )
    with line(f"reading {benchmark} and {model}"):
        plans = plan_scores(request, adapter) if adapter else [plan_score(request)]
    return partial(_carry_out, plans, output, fresh, json)


def _carry_out(plans: Sequence[ScorePlan], output: Path, fresh: bool, json: bool) -> None:
    """Score each plan's model, and show what came of it."""
    from rich.console import Console

    from ckl_bench.learning.retain import tell
    from ckl_bench.progress import log
    from ckl_bench.results.output import score_once, table_beside_committed
    from ckl_bench.scoring.vllm_backend import Running
    from ckl_bench.storage.json import jsonl, sealed

    records = []
    with Running() as running:
        for plan in plans:
            record, was_there = score_once(output, plan, fresh=fresh, running=running)
            records.append(record)
            if was_there:
                log(f"it is scored already ({_path(output, record)}); --fresh scores it again")
            if json:
                sys.stdout.write(jsonl([sealed(record.model_dump())]))
                sys.stdout.flush()
    if json:
        return
    Console().print(table_beside_committed(output, records[-1]))
    for plan, record in zip(plans, records, strict=True):
        named = "".join(f"{name}: " for name in plan.subject.given.values()) if len(plans) > 1 else ""
        for stage in record.stages:
            for name, scores in stage.epochs[0].sets.items():
                found = f"accuracy {scores.accuracy:.4f}, exact {scores.exact:.4f}, NLL {scores.nll:.4f}"
                say(f"{named}{stage.name} {name}: {found}")
        tell(record)
        log(f"record: {_path(output, record)}")


def _path(output: Path, record: Record) -> str:
    return f"{output}/records/{record.run_id}.json"
