"""Options: none is dropped silently; -h, --version and completion are there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from ckl_bench import __version__
from ckl_bench.cli.app import app
from conftest import Command
from helpers.terminal import MAIN

COMMANDS = ("run", "train-attention", "methods", "check-method", "new-method", "models", "benchmarks", "leaderboard")
MORE = ("compare", "reproduce", "submit", "report", "show", "build", "build lama-ckl", "build temporalwiki")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("run --method a --method b", "--method is given twice (a, b); give it once, or join methods by +"),
        ("run --method=a --lr 1 --method=b", "--method is given twice (a, b); give it once, or join methods by +"),
        ("run --method a --epochs 1 --epochs 2 --epochs=2", "--epochs is given 3 times (1, 2, 2); give it once"),
        ("compare --benchmark x a b --benchmark y", "--benchmark is given twice (x, y); give it once"),
        ("train-attention --out a --seed 1 --seed 1", "--seed is given twice (1, 1); give it once"),
        ("run --method lora --set lora.r=8 --set lora.r=9", "--set lora.r is given twice, 8 and 9; give it once"),
        (
            "run --method lora-null --set lora_null.r=8 --set lora-null.r=8",
            "--set lora-null.r is given twice, 8 and 8; give it once",
        ),
        (
            "train-attention --out a.safetensors --model tiny --set steps=1 --set steps=2",
            "--set steps is given twice, 1 and 2; give it once",
        ),
        ("show lora --output a --output b", "--output is given twice (a, b); give it once"),
        ("build lama-ckl --out a --out b --lama c", "--out is given twice (a, b); give it once"),
        (
            "build temporalwiki --out a --wikipedia 1 2 --wiki b --wikipedia 3 --wiki c",
            "--wiki is given twice (b, c); give it once",
        ),
    ],
)
def test_an_option_of_one_value_is_refused_when_given_twice(words: str, said: str, command: Command) -> None:
    result = command(*words.split())
    assert (result.code, result.out, result.err) == (2, "", f"error: {said}\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--epochs eight", "--epochs eight: expected a valid integer"),
        ("--lr 1e-3x", "--lr 1e-3x: expected a valid number"),
        ("--set lora.r=x", "--set lora.r=x: expected a valid integer"),
        ("--set lora.r=0", "--set lora.r=0: expected a number greater than 0"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(words: str, said: str, command: Command) -> None:
    result = command("run", "--method", "lora", *words.split())
    assert (result.code, result.out, result.err) == (2, "", f"error: {said}\n")


def every_option() -> Iterator[tuple[tuple[str, ...], str]]:
    """(the words of a command, an option of it that takes one value), of all commands that there are."""

    def walk(words: tuple[str, ...], group: Any) -> Iterator[tuple[tuple[str, ...], str]]:
        for name, found in getattr(group, "commands", {}).items():
            yield from walk((*words, name), found)
        for option in group.params if words and not hasattr(group, "commands") else ():
            if option.param_type_name == "option" and not (option.multiple or option.is_flag):
                yield from ((words, name) for name in option.opts if name != "--preset")  # "1" is refused as none

    return walk((), typer.main.get_command(app))


def test_no_commands_single_option_takes_the_last_of_two(command: Command) -> None:
    counted = 0
    for words, option in every_option():
        for given in ([option, "1", option, "2"], [f"{option}=1", option, "2"]):
            result = command(*words, *given)
            assert (result.code, result.out) == (2, ""), (words, option)
            assert result.err.startswith(f"error: {option} is given twice ("), (words, option, result.err)
            assert {"1", "2"} == set(result.err.split("(")[1].split(")")[0].split(", "))
        counted += 1
    assert counted > 100


def test_options_that_take_several_take_them(command: Command) -> None:
    several = ["--seed", "1", "--seed", "1", "--set", "lora.r=2", "--set", "lora.alpha=4", "--json", "--json"]
    result = command("run", "--method", "lora", *several, "--model", "nosuchmodel")
    assert result.code == 2
    assert result.err.startswith("error: unknown model 'nosuchmodel'")


@pytest.mark.parametrize("words", ["", *COMMANDS, *MORE])
def test_h_is_help(words: str, command: Command) -> None:
    short, long = command(*words.split(), "-h"), command(*words.split(), "--help")
    assert (short.code, short.out) == (0, long.out)
    assert "Usage:" in short.out


def test_help_is_given_whatever_else_is_wrong(command: Command) -> None:
    assert command("run", "--method", "a", "--method", "b", "--help").code == 0


def test_the_version(command: Command) -> None:
    result = command("--version")
    assert (result.code, result.out, result.err) == (0, f"ckl-bench {__version__}\n", "")


@pytest.mark.parametrize(
    ("typed", "offered"), [("ckl-bench re", {"reproduce", "report"}), ("ckl-bench run --see", {"--seed"})]
)
def test_bash_completes(typed: str, offered: set[str]) -> None:
    asked = {"_CKL_BENCH_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    code = [sys.executable, "-c", MAIN]
    done = subprocess.run(code, env=os.environ | asked, capture_output=True, text=True)
    assert (done.returncode, set(done.stdout.split()), done.stderr) == (0, offered, "")
    asked = {"_CKL_BENCH_COMPLETE": "source_bash"}
    script = subprocess.run(code, env=os.environ | asked, capture_output=True, text=True, check=True).stdout
    assert "complete -o default -F" in script
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
