"""Work that a method needs done once, before any run: a file that its runs read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ckl_bench.cli.options import (
    LOADING,
    AttentionOption,
    BenchmarkOption,
    DeviceOption,
    MethodsOption,
    ModelOption,
    PickleOption,
    RemoteOption,
    say,
    valid_seeds,
)
from ckl_bench.errors import UserError


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(prepare)


def prepare(
    method: Annotated[str, typer.Argument(help="A method's name, such as restate.")],
    out: Annotated[Path, typer.Option(help="FILE.safetensors to write; a JSON goes beside it.")],
    benchmark: BenchmarkOption = "lama-ckl-mini",
    model: ModelOption = "smollm2-135m",
    seed: Annotated[int, typer.Option(help="Seeds what is drawn.")] = 0,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="field=value, as epochs=3; a wrong field lists all.")
    ] = None,
    device: DeviceOption = "auto",
    attention: AttentionOption = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew although a checkpoint is there.")] = False,
    methods_dir: MethodsOption = None,
    trust_remote_code: RemoteOption = False,
    allow_pickle: PickleOption = False,
) -> None:
    """Make the file that a method's runs read, from a benchmark's solved pairs; run it again to go on after a stop."""
    from ckl_bench.progress import line

    with line(LOADING):
        from ckl_bench.benchmarks.format import load_benchmark
        from ckl_bench.learning.environment import pick_device, settle
        from ckl_bench.method import Method
        from ckl_bench.models.find import find_model
        from ckl_bench.stacks.plugins import load_method
        from ckl_bench.storage.writing import require_writable

        made = load_method(method, methods_dir)()
    if type(made).prepare is Method.prepare:
        raise UserError(f"'{method}' needs nothing prepared; run it: ckl-bench run --method {method}")
    valid_seeds([seed])
    require_writable(out.absolute().parent)
    place = pick_device(device)
    with line(f"reading {benchmark} and {model}"):
        data = load_benchmark(benchmark)
        base = find_model(
            model,
            device=place,
            trust_remote_code=trust_remote_code,
            allow_pickle=allow_pickle,
            attention=attention,
        )

    settle(place)
    made.prepare(benchmark=data, base=base, out=out, device=place, seed=seed, settings=settings or [], fresh=fresh)
    say(f"{out}: a run reads it where a setting of {method} names it (--set {method}.FIELD={out})")
