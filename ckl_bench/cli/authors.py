"""Commands for who writes a method: a file to start from, and a check of what it has become."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ckl_bench.cli.options import LOADING, MethodsOption, say
from ckl_bench.errors import CklError, printable


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    for command in (check_method, new_method):
        app.command()(command)


def check_method(
    what: Annotated[str, typer.Argument(metavar="NAME|PATH", help="A method's name, or its file or package.")],
    methods_dir: MethodsOption = None,
) -> None:
    """Check one method against the contract that all methods keep: a list to act on, in under two minutes."""
    from rich.console import Console
    from rich.text import Text

    from ckl_bench.progress import line, while_waiting

    with line(LOADING):
        from ckl_bench.testing import check_method as checks

    console, failed = Console(highlight=False), 0
    for check in while_waiting(f"checking {what}", checks(what, methods_dir)):
        mark, style = {True: ("ok  ", "green"), False: ("FAIL", "bold red"), None: ("-   ", "dim")}[check.passed]
        detail = f": {check.detail}" if check.detail else ""
        console.print(Text.assemble((mark, style), f"  {check.name}", (printable(detail), "dim")), soft_wrap=True)
        failed += check.passed is False
    if failed:
        raise CklError(f"{what} fails {failed} check{'s' * (failed > 1)}; correct it and run the same command again")


def new_method(
    name: Annotated[str, typer.Argument(help="Small letters, digits and _, such as my_method.")],
    hook: Annotated[
        str, typer.Option(help="What it decides: build, stream, penalty, optimizer, scoring or weigh.")
    ] = "weigh",
    folder: Annotated[Path, typer.Option(help="Where the two files go.")] = Path("methods"),
) -> None:
    """Write a commented starting file for a method of your own, with a test."""
    from ckl_bench.testing.template import write_method

    method, test = write_method(name, folder, hook)
    elsewhere = "" if folder == Path("methods") else f" --methods-dir {folder}"
    say(f"{method}\n{test}")
    say(f"next: edit {method}, then ckl-bench check-method {method}")
    say(f"      and ckl-bench run --method {method.stem}{elsewhere}")
