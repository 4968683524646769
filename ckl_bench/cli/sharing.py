"""Commands that make benchmarks, models and records ready for others' tools and hubs."""

from __future__ import annotations

from typing import Annotated

import typer

from ckl_bench.cli.options import say


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command()(card)


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
