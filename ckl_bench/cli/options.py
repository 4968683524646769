"""Options that several commands share, and checks of their values."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from ckl_bench.errors import UserError, broken, printable

ModelOption = Annotated[
    str, typer.Option("--model", help="A name (see `models`), a folder, a .gguf file, or a hub id.")
]
BenchmarkOption = Annotated[str, typer.Option("--benchmark", help="A name (see `benchmarks`) or a directory.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")]
MicroBatchOption = Annotated[
    int | None,
    typer.Option(
        "--micro-batch",
        help="Documents that go through the model at once; a step stays --batch-size of them.",
        show_default="as many as fit",
    ),
]
ScoreTokensOption = Annotated[
    str,
    typer.Option(
        "--score-batch-tokens",
        metavar="auto|N",
        help="Tokens of prompts that go through the model at once. auto: as many as fit.",
    ),
]
DtypeOption = Annotated[
    str,
    typer.Option(
        "--dtype",
        help="auto, float32, bfloat16 or float16: the base model's numbers. auto: bfloat16 on GPUs that have it.",
    ),
]
CheckpointOption = Annotated[
    bool,
    typer.Option("--checkpoint-activations", help="Compute activations again for the gradient: less memory, slower."),
]
AttentionOption = Annotated[
    str | None,
    typer.Option("--attention", help="An attention kernel of transformers': eager, sdpa, flash_attention_2, ..."),
]
KeepOption = Annotated[
    str,
    typer.Option("--keep", metavar="last|best-total", help="Which epoch's model --save-model keeps; see `best_total`."),
]
RemoteOption = Annotated[bool, typer.Option("--trust-remote-code", help="Let a hub model run its own code.")]
PickleOption = Annotated[
    bool,
    typer.Option("--allow-pickle", help="Read a model's .bin weights, which are pickled, where there is no other."),
]
VllmOption = Annotated[
    list[str] | None,
    typer.Option("--vllm", metavar="KEY=VALUE", help="An argument of vLLM's engine, once or more."),
]
PretestBackendOption = Annotated[
    str, typer.Option("--pretest-backend", help="Who runs the pre-test models: transformers, or vllm for many facts.")
]
MethodsOption = Annotated[Path | None, typer.Option("--methods-dir", help="A folder with methods of your own.")]


LOADING = "loading torch and transformers"  # seconds in which nothing else is to be seen
TOGETHER = {"--method": ", or join methods by +"}  # what may have been meant by giving an option twice


class Once(TyperCommand):
    """A command that refuses an option given twice where it takes one value: none is dropped silently."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typer does; UserError for what is given twice."""
        if not ctx.resilient_parsing and not any(word in ctx.help_option_names for word in args):
            _, _, order = self.make_parser(ctx).parse_args(args=list(args))
            for option, times in Counter(order).items():
                if times > 1 and not (option.multiple or option.is_flag):  # type: ignore[attr-defined]
                    raise _twice(option, args)
        return super().parse_args(ctx, args)


def _twice(option: Any, args: Sequence[str]) -> UserError:
    name = max(option.opts, key=len)
    behind = [value for word, value in pairwise(args) if word in option.opts]
    joined = [word.split("=", 1)[1] for word in args if "=" in word and word.split("=", 1)[0] in option.opts]
    values = [*behind, *joined]
    often = "twice" if len(values) == 2 else f"{len(values)} times"
    return UserError(f"{name} is given {often} ({', '.join(values)}); give it once{TOGETHER.get(name, '')}")


def at_least_one(**options: int | None) -> None:
    """UserError for a count below 1, or beyond anything that could be counted."""
    for name, value in options.items():
        if value is not None and not 1 <= value < 2**31:
            raise UserError(f"--{name.replace('_', '-')} {value}: expected a whole number of at least 1, below 2^31")


def above_zero(option: str, rate: float) -> None:
    """UserError for a rate that is not above 0, or is no number."""
    if not 0 < rate < float("inf"):
        raise UserError(f"{option} {rate:g}: expected a rate above 0, as in {option} 5e-4")


def tokens_or_auto(option: str, text: str) -> int | None:
    """A number of tokens, or None for auto; UserError for anything else."""
    if text == "auto":
        return None
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:12]) < 2**31:
        raise UserError(f"{option} {text}: expected auto or a whole number of at least 1, below 2^31")
    return int(text)


def valid_seeds(seeds: Sequence[int]) -> None:
    """UserError for a seed that a random generator would not take."""
    for seed in seeds:
        if not 0 <= seed < 2**63:
            raise UserError(f"--seed {seed}: expected a whole number of at least 0, below 2^63")


def spread(arguments: Sequence[str], options: Collection[str]) -> list[str]:
    """`--wikipedia OLD NEW` -> `--wikipedia OLD --wikipedia NEW`, for the options that take several values."""
    result: list[str] = []
    current = None
    for argument in arguments:
        if argument.startswith("-"):
            current = argument if argument in options else None
        elif current is not None and result[-1] != current:
            result.append(current)
        result.append(argument)
    return result


def say(text: str) -> None:
    """Print to stdout; names from data and file names may not move the terminal's cursor.

    A terminal gets what is longer than its line broken between words, but a command to type (`next: `) in one piece.
    """
    shown = printable(text)
    typer.echo(shown if text.startswith("next: ") or sys.stdout is None else broken(shown, sys.stdout))
