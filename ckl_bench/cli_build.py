"""`ckl-bench build`: a raw source -> a benchmark directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ckl_bench.cli_options import DeviceOption, at_least_one
from ckl_bench.errors import UserError

build = typer.Typer(no_args_is_help=True, help="Build a benchmark directory from its raw source.")


@build.command("lama-ckl")
def build_lama_ckl(
    out: Annotated[Path, typer.Option(help="The benchmark directory to write; must not exist.")],
    lama: Annotated[Path | None, typer.Option(help="LAMA release: relations.jsonl and TREx/P*.jsonl.")] = None,
    published: Annotated[Path | None, typer.Option(help="The paper's files: variant.jsonl, invariant_*.jsonl.")] = None,
    pretest_model: Annotated[list[str] | None, typer.Option(help="Model(s) that certify the split.")] = None,
    to_learn: Annotated[int, typer.Option(help="To-learn facts to sample.")] = 500,
    not_to_forget: Annotated[int, typer.Option(help="Not-to-forget facts to sample.")] = 500,
    seed: Annotated[int, typer.Option(help="Seed of the sample.")] = 42,
    form: Annotated[str, typer.Option(help="Prompt form: descriptive or schematic.")] = "descriptive",
    licence: Annotated[str, typer.Option(help="Licence of the source, for the manifest.")] = "CC-BY-NC-4.0",
    epochs: Annotated[int, typer.Option(help="Default epochs of runs on this benchmark.")] = 30,
    batch_size: Annotated[int, typer.Option(help="Default batch size of runs.")] = 64,
    lr: Annotated[float, typer.Option(help="Default learning rate of runs.")] = 1e-4,
    device: DeviceOption = "auto",
) -> None:
    """LAMA-ckl: a to-learn and a not-to-forget set, certified by pre-testing every fact on a model."""
    from ckl_bench.benchmarks.lama_ckl import build_from_lama, build_from_published
    from ckl_bench.environment import pick_device
    from ckl_bench.files import refuse_existing

    if (lama is None) == (published is None):
        raise UserError("give exactly one of --lama DIR (with --pretest-model) and --published DIR")
    if form not in ("descriptive", "schematic"):
        raise UserError(f"--form {form}: expected descriptive or schematic")
    at_least_one(to_learn=to_learn, not_to_forget=not_to_forget, epochs=epochs, batch_size=batch_size)
    refuse_existing(out)
    defaults = {"epochs": epochs, "batch_size": batch_size, "learning_rate": lr}
    if published is not None:
        counts = build_from_published(published, out, form=form, defaults=defaults)  # type: ignore[arg-type]
    else:
        assert lama is not None
        if not pretest_model:
            raise UserError("--lama needs --pretest-model M: a split is certified for a base model")
        from ckl_bench.pretest import pretest_models

        counts = build_from_lama(
            lama,
            out,
            models=pretest_models(pretest_model, pick_device(device)),
            to_learn=to_learn,
            not_to_forget=not_to_forget,
            seed=seed,
            form=form,  # type: ignore[arg-type]
            licence=licence,
            defaults=defaults,
        )
    typer.echo(f"{out}: {counts['facts']} facts read")
    for name, number in counts["kept"].items():
        typer.echo(f"  {number:6d}  {name}")
    for reason, number in counts["refused"].items():
        typer.echo(f"  {number:6d}  refused: {reason}")
    for reason, number in counts.get("left_out", {}).items():
        typer.echo(f"  {number:6d}  left out: {reason}")
