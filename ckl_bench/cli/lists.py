"""Commands that list what has a name: methods, models, benchmarks. Nothing heavy is imported for them."""

from __future__ import annotations

import typer

from ckl_bench.cli.options import MethodsOption
from ckl_bench.errors import printable


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    for command in (methods, models, benchmarks):
        app.command()(command)


def methods(methods_dir: MethodsOption = None) -> None:
    """List the methods: name, the hooks it owns, what it is. None is imported."""
    from ckl_bench.stacks.plugins import describe, origins

    found = {name: describe(origin) for name, origin in sorted(origins(methods_dir).items())}
    _list(["method", "owns", "what it is"], [[name, hooks, text] for name, (text, hooks) in found.items()])


def models() -> None:
    """List the models that have a name; any local folder or hub id works too."""
    from ckl_bench.models.catalogue import MODELS

    _list(["model", "what it is"], [[name, text] for name, text in MODELS.items()])


def benchmarks() -> None:
    """List the benchmarks that come with ckl-bench; any benchmark directory works too."""
    from ckl_bench.benchmarks.catalogue import BENCHMARKS

    _list(["benchmark", "what it is"], [[name, text] for name, text in BENCHMARKS.items()])


def _list(columns: list[str], lines: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for line in lines:
        table.add_row(*(Text(printable(cell)) for cell in line))
    Console().print(table)
