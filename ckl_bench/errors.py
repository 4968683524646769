"""Errors that a person reads: one line, no traceback."""

from __future__ import annotations

import difflib
import os
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

LONGEST = 480  # characters of an error; what it quotes from data may have any length


class CklError(Exception):
    """A failure of a run that is reported in one line (exit code 1)."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        half = LONGEST // 2
        super().__init__(message if len(message) <= LONGEST else f"{message[:half]} ... {message[-half:]}")


class UserError(CklError):
    """The user's input is wrong: what was given, what was expected, what to type next (exit code 2)."""

    exit_code = 2


class Unknown(UserError):
    """A name that there is none of."""


class Busy(UserError):
    """Another process is at it, and may be done later."""


class InvalidRecord(UserError):
    """A file that is no record; `reasons` are all that is wrong with it."""

    def __init__(self, path: Path, reasons: Sequence[str]) -> None:
        more = f", and {len(reasons) - 1} more" if reasons[1:] else ""
        super().__init__(f"{path} is not a valid record ({reasons[0]}{more}); remove or restore it")
        self.reasons = [f"it is not a valid record ({reason})" for reason in reasons]


def expected(error: Any) -> str:
    """What pydantic's ValidationError says first, as a part of our sentence: `expected a valid integer`."""
    message = str(error.errors()[0]["msg"])
    if not message.startswith("Input should be "):
        return message[:1].lower() + message[1:]
    what = message.removeprefix("Input should be ").split(", unable to")[0]
    return f"expected a number {what}" if what.startswith(("greater", "less")) else f"expected {what}"


OUT_OF_MEMORY = (
    "out of memory; the same experiment needs less with --micro-batch 1 and --checkpoint-activations; another one does "
    "with a smaller --max-tokens (in train-attention --set max_tokens=N or batch_size=N), qlora in place of lora "
    "(--set nf4=true), or a smaller --model"
)


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's, that of torch on a CPU, or a GPU's."""
    words = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | OSError) and any(word in str(error).lower() for word in words)
    )


def first_line(error: Exception) -> str:
    """What another library's error says first, short enough for one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    first = f"{lines[0]} {lines[1]}" if lines[0].endswith(":") and lines[1:] else lines[0]
    return (f"{type(error).__name__} {first}" if isinstance(error, LookupError) else first)[:300]  # a bare key, say


def printable(text: str) -> str:
    """Text as a terminal may show it: control characters, which could move its cursor or more, as escapes."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def utf8(name: str) -> bool:
    """Whether a name is text: a file system may have bytes in one that are none."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def broken(message: str, stream: TextIO) -> str:
    """A message as `stream` gets it: on a terminal broken between words, never within one (a path, say)."""
    try:
        width = os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):  # no terminal
        return message
    lines = message.split("\n")
    keep = textwrap.TextWrapper(width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(keep.fill(line) for line in lines)


def unknown(what: str, given: str, known: Iterable[str], hint: str = "") -> Unknown:
    """The error for a name that does not exist: names the closest one, then all that do."""
    names = sorted(known)
    close = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    guess = f"; did you mean '{close[0]}'?" if close else ""
    listed = f" Known: {', '.join(names)}." if names else " There are none."
    return Unknown(f"unknown {what} '{given}'{guess}{listed}{' ' + hint if hint else ''}")
